"""A scene: splits of posed images, and the box that they show."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from nerf_metal.data.cameras import Intrinsics, Lenses
from nerf_metal.data.photos import Photos
from nerf_metal.util.errors import InputError


@dataclass(frozen=True, eq=False)
class Split:
    """The views of one split: images with their cameras.

    Attributes:
        name: ``"train"``, ``"val"`` or ``"test"``.
        images: uint8 ``[N, H, W, 4]``, RGB and straight alpha in sRGB. Alpha is 255 where a file has none. As bytes,
            100 views of 800x800 take 256 MB; as float32 they would take 1 GB. Photographs, which may have several
            sizes and may not fit into memory, are :class:`nerf_metal.data.photos.Photos`.
        c2w: camera-to-world matrices, float32 ``[N, 4, 4]``, with the axes of :mod:`nerf_metal.data.cameras`.
        intrinsics: the intrinsics of all images, or a sequence with one for each.
        names: ``N`` names: the paths of the images relative to the scene, without extension.
        has_alpha: True if any file had an alpha channel.

    Raises:
        InputError: the shapes or dtypes of the parts do not agree.
    """

    name: str
    images: Tensor | Photos
    c2w: Tensor
    intrinsics: Intrinsics | Sequence[Intrinsics]
    names: list[str]
    has_alpha: bool

    def __post_init__(self) -> None:
        """Check that the shapes and dtypes of the parts agree."""
        n = len(self.names)
        if isinstance(self.intrinsics, Sequence) and len(self.intrinsics) != n:
            raise InputError(
                f"[Split] intrinsics of {self.name!r} must be one for all or {n} as names say, "
                f"got {len(self.intrinsics)}; pass one per image"
            )
        if isinstance(self.images, Photos):
            expected_sizes = [(camera.height, camera.width) for camera in map(self.camera, range(n))]
            if self.images.sizes.tolist() != [list(size) for size in expected_sizes]:
                raise InputError(
                    f"[Split] images of {self.name!r} must have the sizes of their cameras, got other sizes; "
                    "pass one camera per image"
                )
        else:
            first = self.camera(0)
            expected = (n, first.height, first.width, 4)
            if self.images.dtype != torch.uint8 or tuple(self.images.shape) != expected:
                raise InputError(
                    f"[Split] images of {self.name!r} must be uint8 {expected} as names and intrinsics say, got "
                    f"{self.images.dtype} {tuple(self.images.shape)}; pass one RGBA image per name"
                )
        if self.c2w.dtype != torch.float32 or tuple(self.c2w.shape) != (n, 4, 4):
            raise InputError(
                f"[Split] c2w of {self.name!r} must be float32 {(n, 4, 4)}, got "
                f"{self.c2w.dtype} {tuple(self.c2w.shape)}; pass one pose per image"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def camera(self, index: int) -> Intrinsics:
        """Return the intrinsics of one image."""
        return self.intrinsics if isinstance(self.intrinsics, Intrinsics) else self.intrinsics[index]

    @cached_property
    def lenses(self) -> Lenses:
        """Intrinsics of all images as tensors ``[N]``."""
        return Lenses.of([self.camera(i) for i in range(len(self))])

    @cached_property
    def sizes(self) -> Tensor:
        """Height and width of every image, int64 ``[N, 2]``."""
        return torch.tensor([(camera.height, camera.width) for camera in map(self.camera, range(len(self)))])

    @property
    def image_bytes(self) -> int:
        """Memory that the images take, in bytes."""
        return self.images.nbytes

    def image(self, index: int) -> Tensor:
        """Return one image, uint8 ``[H, W, 4]``, RGB and straight alpha."""
        return self.images[index]

    def pixels(self, image_index: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Read a batch of pixels as floats.

        Args:
            image_index: index of each pixel's image, int64 ``[...]``.
            y: row from the top, int64 ``[...]``.
            x: column from the left, int64 ``[...]``.

        Returns:
            float32 ``[..., 4]`` in [0, 1]: RGB and straight alpha.
        """
        pick = self.images.pixels if isinstance(self.images, Photos) else lambda *at: self.images[at]
        return pick(image_index, y, x).to(torch.float32) / 255.0

    def masked(self, image_index: Tensor, y: Tensor, x: Tensor) -> Tensor | None:
        """Tell which pixels of a batch a mask leaves out of the training.

        Args:
            image_index: index of each pixel's image, int64 ``[...]``.
            y: row from the top, int64 ``[...]``.
            x: column from the left, int64 ``[...]``.

        Returns:
            bool ``[...]``, True where a pixel is left out; None if there are no masks.
        """
        return self.images.masked(image_index, y, x) if isinstance(self.images, Photos) else None


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene to train on and to evaluate on.

    World units are the units of `aabb` and of the poses in `splits`.

    Attributes:
        name: short name for titles.
        source: the folder that the scene came from, or ``"embedded"``.
        splits: the splits by name.
        aabb: corners of the box that holds what the images show, float32 ``[2, 3]``, world units, least corner first.
            With one cascade it holds everything to be reconstructed.
        near: distance along a ray where sampling may start, world units.
        far: distance along a ray where sampling may stop, world units.
        notes: sentences for the user about what was found and done while loading.
        capture_to_scene: similarity from the coordinates of the poses as they were given to those of the splits,
            float64 ``[4, 4]``. Its inverse brings exports back.
        cascades: number of boxes that hold the scene. The first is `aabb`; each is twice as large as the one before.
            An object alone needs 1, an object with its surroundings more.
        format: name of the format that was read, as ``--format`` takes it.
        points: points on surfaces in the coordinates of the splits, float32 ``[P, 3]``; None if the capture has none.
    """

    name: str
    source: str
    splits: dict[str, Split]
    aabb: Tensor
    near: float
    far: float
    notes: list[str] = field(default_factory=list)
    capture_to_scene: Tensor = field(default_factory=lambda: torch.eye(4, dtype=torch.float64))
    cascades: int = 1
    format: str = "blender"
    points: Tensor | None = None


def spread(count: int, wanted: int) -> list[int]:
    """Choose indices that are evenly spaced: the middles of equal parts.

    Args:
        count: number of items to choose from.
        wanted: number of indices to choose.

    Returns:
        ``wanted`` increasing indices below ``count``, or all of them if there are fewer.
    """
    wanted = min(wanted, count)
    return [int((i + 0.5) * count / wanted) for i in range(wanted)]
