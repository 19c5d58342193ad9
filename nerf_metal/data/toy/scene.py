"""The built-in scene: a toy locomotive that is ray-traced when it is needed, in the form of a NeRF-synthetic scene.

It needs no download and has the licence of the package, so that a first run, a test and a benchmark work on any
machine.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from nerf_metal.data.cameras import Intrinsics, image_rays, look_at
from nerf_metal.data.readers.blender import FAR, HALF_EXTENT, NEAR
from nerf_metal.data.scene import Scene, Split
from nerf_metal.data.toy.locomotive import locomotive
from nerf_metal.data.toy.raytrace import NOTHING, Lamp, fibonacci_sphere, normals_at, trace_any, trace_grid
from nerf_metal.data.toy.solids import Array, Solid, corners
from nerf_metal.util.errors import InputError

CAMERA_ANGLE_X = 0.6911112070083618  # radians, as in the NeRF-synthetic scenes
RADIUS = 4.0  # of the sphere of cameras, about as in the NeRF-synthetic scenes
LOWEST, HIGHEST = -0.1, 0.97  # sine of the cameras' elevation: from just below the track to nearly overhead
SAMPLES = 2  # rays per pixel along each axis: five values of alpha at edges, for four times the cost of one ray

# The sun is high, at the front right. It lights the nose and one side; the sky lights the other side.
SUN = np.array([0.42, -0.62, 0.66], dtype=np.float32) / np.float32(math.sqrt(0.42**2 + 0.62**2 + 0.66**2))
# Number of lamps, and their largest angle from the middle in radians: a sun of 4 degrees has soft shadows.
_SUN_LAMPS, _SUN_SPREAD = 6, 0.035
_SUN_COLOUR = np.array([2.5, 2.3, 1.95], dtype=np.float32)  # warm, about three times as bright as the open sky
_SKY_LAMPS = 40  # lamps over the whole sphere; fewer would show single shadows
# Pixel size of the depth maps, world units: below a pixel of an image of the default size, which is 0.022 on the toy.
_SUN_TEXEL, _SKY_TEXEL = 0.008, 0.014
_GLEAM, _GLEAM_EXPONENT = np.float32(0.35), 60  # plastic: faint, about 10 degrees wide
# The sun in the mirror is much brighter than white, and wider than its lamps (cosine 0.985 to 0.997): a smaller spot
# would fall between the rays of a small image and flicker from view to view.
_GLARE, _GLARE_FROM, _GLARE_FULL = np.float32(14.0), np.float32(0.985), np.float32(0.997)
_MIDDLE = (0.0, 0.0, 0.1)  # the point that the cameras look at: the middle of the toy without its antenna


def make_embedded_scene(
    *,
    resolution: int = 128,
    train_views: int = 100,
    test_views: int = 20,
    seed: int = 0,
    splits: Sequence[str] = ("train", "test"),
) -> Scene:
    """Make the built-in scene. The same arguments give the same bits with the same version of numpy.

    Args:
        resolution: width and height of the images in pixels. With 128, all 120 views take seconds.
        train_views: number of training views, evenly spread with jitter over the upper part of a sphere; 100 as in
            NeRF-synthetic.
        test_views: number of test views, along a spiral. None of them is a training view.
        seed: seed of the jitter of the training cameras.
        splits: the splits to make, some of train and test.

    Returns:
        The scene. Its images are RGBA with straight alpha and a transparent background; near, far and the box are those
        of NeRF-synthetic scenes (:func:`nerf_metal.data.readers.blender.load_blender`).

    Raises:
        InputError: a count is not positive, or a split's name is unknown.
    """
    for name, value in (("resolution", resolution), ("train_views", train_views), ("test_views", test_views)):
        if value < 1:
            raise InputError(
                f"[make_embedded_scene] {name} must be at least 1, got {value}; leave it out for the default"
            )
    eyes = {"train": lambda: _train_eyes(train_views, seed), "test": lambda: _test_eyes(test_views)}
    for name in splits:
        if name not in eyes:
            raise InputError(f"[make_embedded_scene] splits must be train or test, got {name!r}; correct the name")
    intrinsics = Intrinsics.from_fov_x(CAMERA_ANGLE_X, resolution, resolution)
    _world()  # build it before the threads start, each of which would build it again
    made = {}
    for name in splits:
        c2w = look_at(eyes[name](), _MIDDLE, (0.0, 0.0, 1.0))
        with ThreadPoolExecutor(2) as pool:  # numpy releases the GIL in large operations only: more threads do not help
            images = list(pool.map(lambda pose: render_view(pose, intrinsics), c2w))
        names = [f"{name}/r_{i}" for i in range(len(images))]
        made[name] = Split(name, torch.from_numpy(np.stack(images)), c2w, intrinsics, names, has_alpha=True)
    box = torch.tensor([[-HALF_EXTENT] * 3, [HALF_EXTENT] * 3])
    return Scene("toy locomotive", "embedded", made, box, NEAR, FAR)


def _train_eyes(count: int, seed: int) -> torch.Tensor:
    """Place training cameras on a Fibonacci spiral from low to high, with jitter: ``[count, 3]``."""
    rng = np.random.default_rng(seed)
    i = np.arange(count)
    # Jitter by a third of the spacing breaks the pattern and keeps the coverage.
    jitter = rng.uniform(-1 / 3, 1 / 3, (2, count))
    z = LOWEST + (HIGHEST - LOWEST) * (i + 0.5 + jitter[0]) / count
    azimuth = math.pi * (1.0 + math.sqrt(5.0)) * i + jitter[1] * math.sqrt(4.0 * math.pi / count)
    return _on_sphere(z, azimuth)


def _test_eyes(count: int) -> torch.Tensor:
    """Place test cameras on a spiral of 2.25 turns from low to high, ``[count, 3]``: a walk that makes a film."""
    i = (np.arange(count) + 0.5) / count
    return _on_sphere(0.02 + 0.75 * i, 2.0 * math.pi * 2.25 * i)


def _on_sphere(z: NDArray[np.float64], azimuth: NDArray[np.float64]) -> torch.Tensor:
    """Return positions on the sphere of cameras, float64 ``[N, 3]``, from the sine of the elevation and the azimuth."""
    flat = np.sqrt(1.0 - z * z)
    return torch.from_numpy(RADIUS * np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), z], axis=1))


def sky(d: Array) -> Array:
    """Return the linear RGB radiance ``[3, K]`` of the sky in the directions ``d [3, K]``.

    The sky is blue and pale at the horizon, with earth below.
    """
    up = np.clip(d[2], -1.0, 1.0)
    zenith, horizon, earth = (
        np.array(c, dtype=np.float32)[:, None] for c in ((0.30, 0.52, 1.00), (0.95, 0.98, 1.00), (0.26, 0.23, 0.20))
    )
    above = horizon + (zenith - horizon) * np.sqrt(np.maximum(up, 0.0))
    # The horizon is soft over a tenth, so that its image in the mirroring dome does not alias.
    radiance: Array = earth + (above - earth) * np.clip(0.5 + 10.0 * up, 0.0, 1.0)
    return radiance


@cache
def _world() -> tuple[list[Solid], list[Lamp], list[Lamp], Array, Array]:
    """Return the solids, the lamps of the sun and of the sky, and the solids' albedo ``[3, S]`` and mirror ``[S]``."""
    solids = locomotive()
    right = np.cross(SUN, (0.0, 0.0, 1.0))
    right /= np.sqrt((right * right).sum())
    above = np.cross(right, SUN)
    sun = []
    for i in range(_SUN_LAMPS):  # evenly spread, like the seeds of a sunflower
        reach, turn = _SUN_SPREAD * math.sqrt((i + 0.5) / _SUN_LAMPS), i * math.pi * (3.0 - math.sqrt(5.0))
        toward = SUN + reach * (math.cos(turn) * right + math.sin(turn) * above)
        toward = (toward / np.sqrt((toward * toward).sum())).astype(np.float32)
        sun.append(Lamp(solids, toward, _SUN_COLOUR / np.float32(_SUN_LAMPS), _SUN_TEXEL))
    # A white surface under a sky of radiance 1 reflects 1: the sum of the lamps' cosines is a quarter of their number.
    directions = fibonacci_sphere(_SKY_LAMPS)
    glow = sky(directions.T).T * np.float32(4.0 / _SKY_LAMPS)
    skies = [Lamp(solids, d, g, _SKY_TEXEL) for d, g in zip(directions, glow, strict=True)]
    albedo = np.array([solid.material.albedo for solid in solids], dtype=np.float32).T
    mirror = np.array([solid.material.mirror for solid in solids], dtype=np.float32)
    return solids, sun, skies, albedo, mirror


def _matte(index: NDArray[np.int16], p: Array, normal: Array, d: Array) -> Array:
    """Return the light that points ``p [3, K]`` reflect without mirroring, linear RGB ``[3, K]``.

    `d` are the directions of the rays that arrive at `p`.
    """
    _, sun, skies, albedo, _ = _world()
    light, direct = np.zeros_like(p), np.zeros(p.shape[1], dtype=np.float32)
    for lamp in skies:
        light += lamp.radiance[:, None] * lamp.shine(p, normal)
    for lamp in sun:
        direct += lamp.shine(p, normal)
    light += sun[0].radiance[:, None] * direct
    # The faint gleam of plastic: Blinn 1977, with the half vector between the eye and the sun.
    half = SUN[:, None] - d
    half /= np.sqrt((half * half).sum(axis=0))
    gleam = np.maximum((half * normal).sum(axis=0), 0.0) ** _GLEAM_EXPONENT
    colour: Array = albedo[:, index] * light + (_GLEAM / np.float32(len(sun))) * gleam * direct
    return colour


def _shade(index: NDArray[np.int16], p: Array, d: Array) -> Array:
    """Return the linear RGB ``[3, K]`` of points `p` on the solids `index`, seen along unit directions `d`."""
    solids, _, _, albedo, mirror = _world()
    normal = normals_at(solids, index, p)
    colour = _matte(index, p, normal, d)
    shiny = np.flatnonzero(mirror[index])
    if shiny.size:
        n, incoming = normal[:, shiny], d[:, shiny]
        r = incoming - 2.0 * (incoming * n).sum(axis=0) * n
        # Off the surface by far more than the rounding of float32, and far less than the thinnest part.
        start = p[:, shiny] + np.float32(1e-3) * n
        t, seen = trace_any(solids, start, r)
        image = sky(r)
        glare = np.clip((SUN @ r - _GLARE_FROM) / (_GLARE_FULL - _GLARE_FROM), 0.0, 1.0)
        image += _GLARE * glare * (seen == NOTHING)
        hit = np.flatnonzero(seen != NOTHING)
        q = start[:, hit] + t[hit] * r[:, hit]
        image[:, hit] = _matte(seen[hit], q, normals_at(solids, seen[hit], q), r[:, hit])
        share = mirror[index[shiny]]
        colour[:, shiny] = (1.0 - share) * colour[:, shiny] + share * albedo[:, index[shiny]] * image
    return colour


def render_view(c2w: torch.Tensor, intrinsics: Intrinsics) -> NDArray[np.uint8]:
    """Ray-trace one view of the built-in scene.

    Args:
        c2w: camera-to-world matrix, float32 ``[4, 4]``.
        intrinsics: the camera.

    Returns:
        sRGB and straight alpha, uint8 ``[H, W, 4]``. Alpha is the share of the `SAMPLES`^2 rays of a pixel that hit.
    """
    fine = intrinsics.scaled(SAMPLES)
    height, width = fine.height, fine.width
    o, d = (v.numpy().reshape(height, width, 3).transpose(2, 0, 1) for v in image_rays(c2w, fine))
    d = np.ascontiguousarray(d)
    solids = _world()[0]
    pose = c2w.numpy()
    seen = np.tensordot(pose[:3, :3].T, corners(solids) - pose[:3, 3][:, None, None], axes=1)
    columns = fine.cx - fine.fl_x * seen[0] / seen[2]
    rows = fine.cy + fine.fl_y * seen[1] / seen[2]
    t, index = trace_grid(solids, columns, rows, o[:, :1, :1], d)
    hit = index != NOTHING
    along = d[:, hit]
    colour = _shade(index[hit], pose[:3, 3][:, None] + t[hit] * along, along)
    rgb = np.zeros((3, height, width), dtype=np.float32)
    rgb[:, hit] = _to_srgb(colour)
    # The colour is the mean over the rays that hit, alpha is their share: composited, that is the mean over all rays.
    cells = (intrinsics.height, SAMPLES, intrinsics.width, SAMPLES)
    count = hit.reshape(cells).sum(axis=(1, 3))
    mean = rgb.reshape(3, *cells).sum(axis=(2, 4)) / np.maximum(count, 1)
    alpha = count / np.float32(SAMPLES * SAMPLES)
    return np.rint(255.0 * np.concatenate([mean, alpha[None]])).astype(np.uint8).transpose(1, 2, 0).copy()


def _to_srgb(linear: Array) -> Array:
    """Apply a film-like shoulder ``1 - exp(-x)``, then the sRGB curve (IEC 61966-2-1)."""
    x = 1.0 - np.exp(-linear)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 0.0031308) ** np.float32(1 / 2.4) - 0.055)
