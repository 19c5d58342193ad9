"""Camera paths of films: a pose (camera-to-world, float32 ``[4, 4]``) and a camera for each frame.

World z is up, as in NeRF-synthetic scenes and in captures that were turned upright.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nerf_metal.data.cameras import Intrinsics, look_at
from nerf_metal.data.poses import forward_facing
from nerf_metal.util.errors import InputError
from nerf_metal.util.geometry import point_nearest_to_lines

CameraPath = list[tuple[Tensor, Intrinsics]]
DENSE = 256  # points between two key poses that give the length of a path: errors are below a hundredth of a frame
SWAY = 1 / 8  # radius of a spiral over the distance to its focus if cameras look in all directions: 7 degrees


def film_camera(camera: Intrinsics, width: int | None = None, height: int | None = None) -> Intrinsics:
    """Return the pinhole camera of a film that shows what ``camera`` shows.

    It has no distortion, square pixels, and the principal point in the middle. ``width`` and ``height`` are as in
    :func:`resized`.
    """
    pinhole = Intrinsics(camera.fl_y, camera.fl_y, 0.5 * camera.width, 0.5 * camera.height, camera.width, camera.height)
    return resized(pinhole, width, height)


def resized(camera: Intrinsics, width: int | None, height: int | None) -> Intrinsics:
    """Return a camera for pictures of another size, in pixels.

    None takes the size that keeps the shape. Another shape crops the picture and never widens it, because nothing was
    photographed beyond its edges.
    """
    if width is None and height is None:
        return camera
    width = width or max(1, round(camera.width * (height or 0) / camera.height))
    height = height or max(1, round(camera.height * width / camera.width))
    factor = max(width / camera.width, height / camera.height)
    cx = 0.5 * width + (camera.cx - 0.5 * camera.width) * factor
    cy = 0.5 * height + (camera.cy - 0.5 * camera.height) * factor
    return dataclasses.replace(
        camera, fl_x=camera.fl_x * factor, fl_y=camera.fl_y * factor, cx=cx, cy=cy, width=width, height=height
    )


def centre_of_view(c2w: Tensor) -> Tensor:
    """Return the point float64 ``[3]`` with the least sum of squared distances to the optical axes of cameras
    ``[N, 4, 4]``."""
    position, axis = c2w[:, :3, 3].double(), c2w[:, :3, 2].double()
    return torch.from_numpy(point_nearest_to_lines(position.numpy(), axis.numpy()))


def covered_arc(c2w: Tensor) -> tuple[float, float]:
    """Return the arc around their centre where cameras ``[N, 4, 4]`` stand: its start and its length, in radians.

    The arc leaves out the widest gap between two neighbours. It is a full circle if no gap is wider than half a circle.
    """
    offset = c2w[:, :3, 3].double() - centre_of_view(c2w)
    azimuth = torch.atan2(offset[:, 1], offset[:, 0])
    turns = torch.tensor(sorted(azimuth.tolist()), dtype=torch.float64)
    gaps = torch.cat((turns[1:], turns[:1] + 2 * math.pi)) - turns
    widest = int(gaps.argmax())
    if float(gaps[widest]) <= math.pi + 1e-3:  # float32 poses of two opposite cameras
        return float(azimuth[0]), 2 * math.pi
    return float(turns[(widest + 1) % len(turns)]), 2 * math.pi - float(gaps[widest])


def orbit(c2w: Tensor, camera: Intrinsics, frames: int) -> CameraPath:
    """Return a closed circle around the point that cameras ``[N, 4, 4]`` look at, at their median distance and height.

    If the cameras stand on one side only (:func:`covered_arc`), the path moves back and forth along that side.

    Raises:
        InputError: the cameras stand above the point, so that there is no circle.
    """
    centre = centre_of_view(c2w)
    offset = c2w[:, :3, 3].double() - centre
    radius, height = torch.linalg.vector_norm(offset[:, :2], dim=1).median(), offset[:, 2].median()
    if float(radius) < 1e-3 * float(torch.linalg.vector_norm(offset, dim=1).median()):  # look_at would spin
        raise InputError(
            "[render] --path orbit must have cameras around what they look at, got cameras above it alone; "
            "use --path spiral"
        )
    start, arc = covered_arc(c2w)
    phase = torch.arange(frames, dtype=torch.float64) / frames
    part = phase if arc == 2 * math.pi else 0.5 - 0.5 * torch.cos(2 * math.pi * phase)
    azimuth = start + arc * part
    eyes = centre + torch.stack((radius * azimuth.cos(), radius * azimuth.sin(), height.expand(frames)), dim=-1)
    return [(pose, camera) for pose in look_at(eyes, centre, (0.0, 0.0, 1.0))]


def hub_pose(c2w: Tensor) -> Tensor:
    """Return the pose that a spiral turns around.

    This is the mean pose of cameras ``[N, 4, 4]`` if they face forward, else the camera whose direction is nearest to
    their mean direction.
    """
    back, up = c2w[:, :3, 2].mean(0), c2w[:, :3, 1].mean(0)
    if not forward_facing(c2w):
        return c2w[int((c2w[:, :3, 2] @ back).argmax())]
    eye = c2w[:, :3, 3].mean(0)
    return look_at(eye, eye - back, up)


def paper_focus(near: float, far: float) -> float:
    """Return the depth that a spiral looks at if the scene shows none.

    As in the code of Mildenhall et al. 2020 ("NeRF"), this is the weighted mean of 1 / depth at the widened bounds of
    the scene, with three quarters of the weight on the far one.
    """
    return 1.0 / (0.25 / (0.9 * near) + 0.75 / (5.0 * far))


def spiral(c2w: Tensor, camera: Intrinsics, frames: int, focus: float) -> CameraPath:
    """Return the spiral of Mildenhall et al. 2019 ("LLFF") and 2020 ("NeRF").

    It makes two turns around :func:`hub_pose`, moves once forward and back, and always looks at the point at depth
    ``focus``. Its radii hold nine of ten cameras ``[N, 4, 4]``. It ends where it begins.
    """
    hub = hub_pose(c2w).double()
    local = (c2w[:, :3, 3].double() - hub[:3, 3]) @ hub[:3, :3]
    radii = local.abs().quantile(0.9, dim=0)
    if not forward_facing(c2w) or float(radii.max()) == 0.0:
        radii = torch.full((3,), SWAY * focus, dtype=torch.float64)
    turn = 4 * math.pi * torch.arange(frames, dtype=torch.float64) / frames
    offsets = torch.stack((turn.cos(), -turn.sin(), -(0.5 * turn).sin()), dim=-1) * radii
    eyes = hub[:3, 3] + offsets @ hub[:3, :3].T
    target = hub[:3, 3] - focus * hub[:3, 2]
    return [(pose, camera) for pose in look_at(eyes, target, hub[:3, 1])]


def interpolate(keys: Tensor, camera: Intrinsics, frames: int) -> CameraPath:
    """Return a smooth path of equal speed through key poses ``[K, 4, 4]``.

    The path has cubic splines of the rotation, of the point that the camera looks at, and of the distance to it. Thus
    the camera goes around the object, where a spline of positions would cut through it. Poses that face forward have no
    such point; there the spline is of positions.

    Rotation counts as length, too: one radian counts as the spread of the key positions. Thus a camera that only turns
    also has a speed.

    Raises:
        InputError: there are fewer than two poses, or two equal poses in a row.
    """
    from scipy.interpolate import CubicSpline  # type: ignore[import-untyped]
    from scipy.spatial.transform import Rotation, RotationSpline  # type: ignore[import-untyped]

    if len(keys) < 2:
        raise InputError(f"[render] --cameras must name at least 2 cameras, got {len(keys)}; add one")
    poses = keys.double().numpy()
    positions, rotations = poses[:, :3, 3], Rotation.from_matrix(poses[:, :3, :3])
    per_radian = float(np.sqrt(((positions - positions.mean(0)) ** 2).sum(1).mean())) or 1.0

    def lengths(at: NDArray[np.float64], turned: Rotation) -> NDArray[np.float64]:
        turns: NDArray[np.float64] = (turned[:-1].inv() * turned[1:]).magnitude()
        return np.hypot(np.linalg.norm(np.diff(at, axis=0), axis=1), per_radian * turns)

    steps = lengths(positions, rotations)
    if not (steps > 1e-6 * per_radian).all():  # float32 poses
        raise InputError(
            f"[render] --cameras must have no two equal poses in a row, got them at place {int(steps.argmin())}; "
            "leave one out"
        )
    knots = np.concatenate(([0.0], np.cumsum(np.sqrt(steps))))  # centripetal: no loops between near poses
    away = np.zeros(len(keys))
    if not forward_facing(keys):
        away = ((positions - centre_of_view(keys).numpy()) * poses[:, :3, 2]).sum(1).clip(min=0.0)
    seen = np.column_stack((positions - away[:, None] * poses[:, :3, 2], away))
    turn, look = RotationSpline(knots, rotations), CubicSpline(knots, seen, bc_type="natural")

    def place(when: NDArray[np.float64]) -> NDArray[np.float64]:
        at: NDArray[np.float64] = look(when)
        return at[:, :3] + at[:, 3:] * turn(when).as_matrix()[:, :, 2]

    dense = np.linspace(0.0, knots[-1], DENSE * (len(keys) - 1) + 1)
    travelled = np.concatenate(([0.0], np.cumsum(lengths(place(dense), turn(dense)))))
    when = np.interp(np.linspace(0.0, travelled[-1], frames), travelled, dense)
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, :3, :3], c2w[:, :3, 3] = turn(when).as_matrix(), place(when)
    return [(pose, camera) for pose in torch.from_numpy(c2w.astype(np.float32))]


def short_tour(c2w: Tensor, indices: list[int]) -> list[int]:
    """Order ``indices`` of poses ``[N, 4, 4]`` so that each is followed by the nearest one that is left.

    The order of a capture may jump from side to side, and a path in that order would go through the object.
    """
    left, tour = list(indices), list[int]()
    while left:
        near = min(left, key=lambda i: float((c2w[i, :3, 3] - c2w[tour[-1], :3, 3]).norm())) if tour else left[0]
        left.remove(near)
        tour.append(near)
    return tour
