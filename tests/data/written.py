"""Captures with known cameras, written by the formats' definitions and by nothing of the package."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
COLMAP_MODELS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4}


@dataclass
class Shot:
    """A photograph: its file's name and size, its lens, and world-to-camera with axes right, down, forwards."""

    name: str
    size: tuple[int, int]
    lens: dict[str, float]
    rotation: Array
    shift: Array
    model: str = "OPENCV"
    extra: dict[str, Any] = field(default_factory=dict)

    def project(self, points: Array) -> Array:
        """Pixels ``[P, 2]`` from the image's corner, by OpenCV's equations; NaN behind the camera."""
        x, y, z = self.rotation @ points.T + self.shift[:, None]
        z = np.where(z > 0, z, np.nan)
        x, y = x / z, y / z
        k1, k2, k3, k4, p1, p2 = (self.lens.get(key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
        r2 = x**2 + y**2
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
        u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2)
        v = y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y**2)
        return np.stack((self.lens["fx"] * u + self.lens["cx"], self.lens["fy"] * v + self.lens["cy"]), -1)

    @property
    def opengl(self) -> Array:
        """Camera-to-world with axes right, up, back."""
        c2w = np.eye(4)
        c2w[:3, :3] = self.rotation.T * (1.0, -1.0, -1.0)
        c2w[:3, 3] = -self.rotation.T @ self.shift
        return c2w


def ring(count: int, radius: float = 3.0, centre: Sequence[float] = (0.0, 0.0, 0.0), height: float = 1.0) -> list[Shot]:
    """Level pinholes of 12 x 8 all round a point, z up, named 00.png and so on."""
    shots = []
    for i in range(count):
        angle = 2 * math.pi * i / count
        eye = np.array((radius * math.cos(angle), radius * math.sin(angle), height + 0.2 * math.sin(3 * angle)))
        lens = {"fx": 9.0, "fy": 9.0, "cx": 6.0, "cy": 4.0}
        shots.append(Shot(f"{i:02}.png", (12, 8), lens, *look(eye + centre, np.array(centre))))
    return shots


def look(eye: Array, target: Array, up: Sequence[float] = (0.0, 0.0, 1.0)) -> tuple[Array, Array]:
    """World-to-camera of a camera that looks at a point."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack((right, np.cross(forward, right), forward))
    return rotation, -rotation @ eye


def save_photos(folder: Path, shots: Sequence[Shot], shrink: int = 1) -> None:
    """Each as its number in grey, `shrink` times smaller than its camera."""
    for i, shot in enumerate(shots):
        path = folder / shot.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (shot.size[0] // shrink, shot.size[1] // shrink), (i, i, i)).save(path)


def write_transforms(root: Path, shots: Sequence[Shot], saved: Array | None = None, **top: Any) -> Path:
    """instant-ngp's and nerfstudio's, intrinsics by frame; `saved` leads from the world to the file's coordinates."""
    save_photos(root / "images", shots)
    frames = []
    for shot in shots:
        pose = shot.opengl
        if saved is not None:
            scale = np.cbrt(np.linalg.det(saved[:3, :3]))
            pose = saved @ pose
            pose[:3, :3] /= scale
        values = {{"fx": "fl_x", "fy": "fl_y"}.get(key, key): value for key, value in shot.lens.items()}
        values |= {"w": shot.size[0], "h": shot.size[1], "file_path": f"images/{shot.name}"} | shot.extra
        frames.append(values | {"transform_matrix": pose.tolist()})
    (root / "transforms.json").write_text(json.dumps({**top, "frames": frames}))
    return root


def write_llff(root: Path, shots: Sequence[Shot], shrink: int = 1, bounds: tuple[float, float] = (1.0, 9.0)) -> Path:
    """poses_bounds.npy of the cameras' sizes, beside photographs that are `shrink` times smaller."""
    save_photos(root / ("images" if shrink == 1 else f"images_{shrink}"), shots, shrink)
    rows = []
    for shot in sorted(shots, key=lambda shot: shot.name):
        right, down, forward = shot.rotation
        hwf = (shot.size[1], shot.size[0], shot.lens["fx"])
        matrix = np.stack((down, right, -forward, -shot.rotation.T @ shot.shift, hwf), -1)
        rows.append([*matrix.ravel(), *bounds])
    np.save(root / "poses_bounds.npy", np.array(rows))
    return root


def colmap_values(shot: Shot) -> list[float]:
    """The parameters of a shot's model in COLMAP's order."""
    focal = ["fx"] if shot.model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL") else ["fx", "fy"]
    lens = {"SIMPLE_RADIAL": ["k1"], "RADIAL": ["k1", "k2"], "OPENCV": ["k1", "k2", "p1", "p2"]}.get(shot.model, [])
    return [shot.lens.get(key, 0.0) for key in (*focal, "cx", "cy", *lens)]


def quaternion(rotation: Array) -> list[float]:
    """(w, x, y, z): the eigenvector of Bar-Itzhack 2000's matrix."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    k = [[a - e - i, b + d, c + g, h - f], [0, e - a - i, f + h, c - g], [0, 0, i - a - e, d - b], [0, 0, 0, a + e + i]]
    x, y, z, w = np.linalg.eigh(np.array(k), UPLO="U")[1][:, -1]
    return [w, x, y, z]


def write_colmap(root: Path, shots: Sequence[Shot], points: Array | None = None, text: bool = False) -> Path:
    """A model of a camera for each image, in sparse/0, with images and cameras numbered apart."""
    save_photos(root / "images", shots)
    folder = root / "sparse" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    points = np.zeros((0, 3)) if points is None else points
    if text:
        _write_text(folder, shots, points)
        return root
    cameras, images = struct.pack("<Q", len(shots)), struct.pack("<Q", len(shots))
    for i, shot in enumerate(shots):
        values = colmap_values(shot)
        cameras += struct.pack(f"<IiQQ{len(values)}d", 7 + i, COLMAP_MODELS[shot.model], *shot.size, *values)
        images += struct.pack("<I7dI", 3 + i, *quaternion(shot.rotation), *shot.shift, 7 + i) + shot.name.encode()
        images += b"\0" + struct.pack("<Q", i % 3) + (i % 3) * struct.pack("<ddq", 1.0, 2.0, -1)
    cloud = struct.pack("<Q", len(points))
    for i, point in enumerate(points):
        cloud += struct.pack("<Q3d3BdQ", i, *point, 9, 9, 9, 0.5, i % 4) + (i % 4) * struct.pack("<II", 3, 0)
    for name, data in (("cameras", cameras), ("images", images), ("points3D", cloud)):
        (folder / f"{name}.bin").write_bytes(data)
    return root


def _write_text(folder: Path, shots: Sequence[Shot], points: Array) -> None:
    cameras, images, cloud = ["# Camera list"], ["# Image list"], ["# 3D point list"]
    for i, shot in enumerate(shots):
        cameras.append(" ".join(map(repr_of, (7 + i, shot.model, *shot.size, *colmap_values(shot)))))
        images.append(" ".join(map(repr_of, (3 + i, *quaternion(shot.rotation), *shot.shift, 7 + i, shot.name))))
        images.append("1.0 2.0 -1" if i % 2 else "")
    for i, point in enumerate(points):
        cloud.append(" ".join(map(repr_of, (i, *point, 9, 9, 9, 0.5, 3, 0))))
    for name, lines in (("cameras", cameras), ("images", images), ("points3D", cloud)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def repr_of(value: object) -> str:
    """A number with all its digits, a word as it is."""
    return value if isinstance(value, str) else repr(float(value) if isinstance(value, float) else int(str(value)))


def write_blender(root: Path, shots: Sequence[Shot]) -> Path:
    """NeRF-synthetic: one angle of view for all; every shot is for training, the first for testing as well."""
    save_photos(root / "images", shots)
    for split, chosen in (("train", shots), ("test", shots[:1])):
        angle = 2 * math.atan(0.5 * shots[0].size[0] / shots[0].lens["fx"])
        frames = [
            {"file_path": f"./images/{Path(shot.name).stem}", "transform_matrix": shot.opengl.tolist()}
            for shot in chosen
        ]
        (root / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    return root
