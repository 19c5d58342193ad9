"""Sparse models of COLMAP, binary and text: cameras, images and points.

The layouts are documented at ``https://colmap.github.io/format.html``. pycolmap is not used: its wheel has 38 MB and
exists for some systems and Python versions only, and its error messages do not name the image. The three files have
not changed in years and need a page of code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.readers.capture import check_camera
from nerf_metal.util.errors import InputError

MODELS = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fl_x", "fl_y", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"),
}
"""Parameters of the camera models that :func:`nerf_metal.data.lenses.distort` covers. The order is that of COLMAP's
model numbers, from 0 on."""
OTHER_MODELS = (
    *("OPENCV_FISHEYE", "FULL_OPENCV", "FOV", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"),
    *("THIN_PRISM_FISHEYE", "RAD_TAN_THIN_PRISM_FISHEYE"),
)
"""Camera models that are not supported, in the order of COLMAP's numbers after those of `MODELS`."""
POINT_2D_BYTES, TRACK_BYTES = 24, 8  # x, y, point number; image number, index in it
QUATERNION_TOLERANCE = 1e-3  # as for poses; text files have 6 digits or more


class ImageEntry(NamedTuple):
    """One image of a model.

    Attributes:
        name: path of the image file, as COLMAP got it.
        camera: number of its camera.
        quaternion: world-to-camera rotation (w, x, y, z), unit norm.
        shift: world-to-camera translation ``(x, y, z)``.
    """

    name: str
    camera: int
    quaternion: tuple[float, ...]
    shift: tuple[float, ...]


class Model(NamedTuple):
    """A sparse model.

    Attributes:
        folder: the folder that it was read from.
        cameras: intrinsics by camera number.
        images: the images, in the order of the file.
        points: finite points, float64 ``[P, 3]``, or None if there is no ``points3D`` file.
    """

    folder: Path
    cameras: dict[int, Intrinsics]
    images: list[ImageEntry]
    points: NDArray[np.float64] | None


def model_suffix(folder: Path) -> str | None:
    """Return ``.bin`` or ``.txt``, the form of the model in a folder, or None if the folder holds no model."""
    has = [
        suffix for suffix in (".bin", ".txt") if all((folder / f"{n}{suffix}").is_file() for n in ("cameras", "images"))
    ]
    return has[0] if has else None


def read_model(folder: Path) -> Model:
    """Read the model of a folder.

    Args:
        folder: a folder for which :func:`model_suffix` is not None.

    Raises:
        InputError: a file is cut short, is longer than its counts say, or holds a value that cannot be used.
    """
    suffix = model_suffix(folder) or ".bin"
    read: Callable[[Path, str], Iterator[tuple[Any, ...]]] = _binary_rows if suffix == ".bin" else _text_rows
    cameras: dict[int, Intrinsics] = {}
    file = folder / f"cameras{suffix}"
    for number, model, width, height, *values in read(file, "cameras"):
        where = f"load_scene: {file} camera {number}"
        cameras[number] = _intrinsics(model, width, height, values, where)
    file = folder / f"images{suffix}"
    images = []
    for _, *pose, camera, name in read(file, "images"):
        if camera not in cameras:
            raise InputError(
                f"[load_scene] {file} must name cameras of cameras{suffix}, got {camera} for {name}; export both again"
            )
        images.append(ImageEntry(name, camera, tuple(pose[:4]), tuple(pose[4:])))
    file = folder / f"points3D{suffix}"
    points = None
    if file.is_file():
        points = np.array([row[1:4] for row in read(file, "points3D")], np.float64).reshape(-1, 3)
        points = points[np.isfinite(points).all(1)]
    return Model(folder, cameras, images, points)


def rotation(quaternion: tuple[float, ...], where: str) -> NDArray[np.float64]:
    """Return the rotation matrix of a quaternion.

    Args:
        quaternion: (w, x, y, z) of unit norm.
        where: start of the message, without brackets.

    Returns:
        float64 ``[3, 3]``.

    Raises:
        InputError: the quaternion is not finite, or its norm is not 1 within `QUATERNION_TOLERANCE`.
    """
    q = np.array(quaternion)
    norm = float(np.linalg.norm(q))
    if not abs(norm - 1.0) <= QUATERNION_TOLERANCE:
        raise InputError(
            f"[{where}] rotation must be a quaternion of norm 1 within {QUATERNION_TOLERANCE}, "
            f"got {q.tolist()} of norm {norm:.4g}; export the model again"
        )
    w, v = q[0] / norm, q[1:] / norm
    x, y, z = v
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return (w * w - v @ v) * np.eye(3) + 2.0 * np.outer(v, v) + 2.0 * w * cross


def _intrinsics(model: int | str, width: int, height: int, values: list[float], where: str) -> Intrinsics:
    """Return the intrinsics of a camera from its parameters in COLMAP's order."""
    names = MODELS[str(model)]
    if len(values) != len(names):
        raise InputError(f"[{where}] {model} must have {len(names)} parameters, got {len(values)}; export it again")
    given = dict(zip(names, values, strict=True))
    if "f" in given:
        given["fl_x"] = given["fl_y"] = given.pop("f")
    return check_camera(Intrinsics(**given, width=width, height=height), where)


def _known(model: str, where: str) -> str:
    """Return the name of a camera model if it is supported."""
    if model not in MODELS:
        raise InputError(
            f"[{where}] camera model must be one of {', '.join(MODELS)}, got {model}; "
            "run COLMAP's image_undistorter and give its output folder"
        )
    return model


class _Bytes:
    """A binary file that is read from front to back."""

    def __init__(self, file: Path) -> None:
        """Read the whole file: a model of thousands of photographs takes a few hundred MB."""
        self.file = file
        self.at = 0
        try:
            self.data = file.read_bytes()
        except OSError as error:
            raise InputError(f"[load_scene] {file} must be a readable file, got {error}; check it") from None

    def take(self, layout: str) -> tuple[Any, ...]:
        """Return the next numbers, little endian, by a layout of :mod:`struct`."""
        start = self.at
        self.skip(struct.calcsize("<" + layout))
        return struct.unpack_from("<" + layout, self.data, start)

    def name(self) -> str:
        """Return the text up to the next zero byte."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            self.skip(len(self.data))
        text = self.data[self.at : end].decode("utf-8", "replace")
        self.at = end + 1
        return text

    def skip(self, count: int) -> None:
        """Skip bytes. They must exist."""
        if self.at + count > len(self.data):
            raise InputError(
                f"[load_scene] {self.file} must hold as many entries as it announces, got {len(self.data)} bytes, "
                "which end within an entry; copy or export the model again"
            )
        self.at += count


def _binary_rows(file: Path, kind: str) -> Iterator[tuple[Any, ...]]:
    """Yield the entries of a binary file of cameras, images or points3D."""
    data = _Bytes(file)
    (count,) = data.take("Q")
    for _ in range(count):
        if kind == "cameras":
            number, model, width, height = data.take("IiQQ")
            names = (*MODELS, *OTHER_MODELS)
            name = names[model] if 0 <= model < len(names) else f"number {model}"
            name = _known(name, f"load_scene: {file} camera {number}")
            yield (number, name, width, height, *data.take(f"{len(MODELS[name])}d"))
        elif kind == "images":
            number, *pose, camera = data.take("I7dI")
            name = data.name()
            data.skip(POINT_2D_BYTES * data.take("Q")[0])
            yield (number, *pose, camera, name)
        else:
            number, x, y, z, _, _, _, _, track = data.take("Q3d3BdQ")
            data.skip(TRACK_BYTES * track)
            yield number, x, y, z
    if data.at != len(data.data):
        raise InputError(
            f"[load_scene] {file} must end after the {count} entries that it announces, "
            f"got {len(data.data) - data.at} bytes more; copy or export the model again"
        )


def _text_rows(file: Path, kind: str) -> Iterator[tuple[Any, ...]]:
    """Yield the entries of a text file of cameras, images or points3D."""
    try:
        lines = iter(enumerate(file.read_text(encoding="utf-8").splitlines(), 1))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"[load_scene] {file} must be a readable UTF-8 text, got {error}; check it") from None
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"load_scene: {file} line {number}"
        try:
            if kind == "cameras":
                camera, model, width, height, *values = line.split()
                _known(model, where)
                yield (int(camera), model, int(width), int(height), *map(float, values))
            elif kind == "images":
                image, *pose, camera, name = line.split(maxsplit=9)
                if len(pose) != 7:
                    raise ValueError
                _, points = next(lines, (0, ""))  # the second line of an image, empty if it has no points
                if len(points.split()) % 3:
                    raise ValueError
                yield (int(image), *map(float, pose), int(camera), name.strip())
            else:
                point, x, y, z = line.split(maxsplit=4)[:4]
                yield int(point), float(x), float(y), float(z)
        except InputError:
            raise
        except ValueError:
            raise InputError(
                f"[{where}] must be a row of COLMAP's {file.name}, got {line.strip()[:60]!r}; export the model again"
            ) from None
