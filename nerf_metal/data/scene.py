"""What every loader gives: a scene of splits, images as bytes."""

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
    """Posed images that belong together (train, val or test).

    Attributes:
        name: ``"train"``, ``"val"`` or ``"test"``.
        images: uint8 ``[N, H, W, 4]``, RGB and straight alpha; alpha is 255 where a file has none. Bytes,
            because 100 views of 800x800 are 256 MB like this and 1 GB as float32. Photographs, which may be
            of several sizes and more than fit into memory: :class:`nerf_metal.data.photos.Photos`.
        c2w: float32 ``[N, 4, 4]``, conventions of `nerf_metal.data.cameras`.
        intrinsics: the camera of all images, or one for each.
        names: ``N`` names, the images' paths relative to the scene without extension.
        has_alpha: whether any file had an alpha channel.

    Raises:
        InputError: shapes or dtypes do not agree.
    """

    name: str
    images: Tensor | Photos
    c2w: Tensor
    intrinsics: Intrinsics | Sequence[Intrinsics]
    names: list[str]
    has_alpha: bool

    def __post_init__(self) -> None:
        """Check that the parts agree."""
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
                    f"[Split] images of {self.name!r} must have the sizes of their cameras, got others; "
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
        """How many images."""
        return len(self.names)

    def camera(self, index: int) -> Intrinsics:
        """The camera of one image."""
        return self.intrinsics if isinstance(self.intrinsics, Intrinsics) else self.intrinsics[index]

    @cached_property
    def lenses(self) -> Lenses:
        """The cameras of all images, ``[N]``."""
        return Lenses.of([self.camera(i) for i in range(len(self))])

    @cached_property
    def sizes(self) -> Tensor:
        """Height and width of every image, int64 ``[N, 2]``."""
        return torch.tensor([(camera.height, camera.width) for camera in map(self.camera, range(len(self)))])

    @property
    def image_bytes(self) -> int:
        """Memory that the images take."""
        return self.images.nbytes

    def image(self, index: int) -> Tensor:
        """One image, uint8 ``[H, W, 4]``."""
        return self.images[index]

    def pixels(self, image_index: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """A batch of pixels as floats.

        Args:
            image_index: integer ``[...]``, which image.
            y: integer ``[...]``, row from the top.
            x: integer ``[...]``, column from the left.

        Returns:
            float32 ``[..., 4]`` in [0, 1]: RGB and straight alpha.
        """
        pick = self.images.pixels if isinstance(self.images, Photos) else lambda *at: self.images[at]
        return pick(image_index, y, x).to(torch.float32) / 255.0

    def masked(self, image_index: Tensor, y: Tensor, x: Tensor) -> Tensor | None:
        """Which of a batch of pixels a mask leaves out of the training, bool ``[...]``; None where there are no
        masks."""
        return self.images.masked(image_index, y, x) if isinstance(self.images, Photos) else None


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene to train on and to measure against.

    Attributes:
        name: short name for titles.
        source: where it came from: a folder, or ``"embedded"``.
        splits: by name.
        aabb: float32 ``[2, 3]``, the corners of the box that holds what the pictures are of, world units;
            everything to be reconstructed where there is one cascade.
        near: distance along a ray where sampling may start, world units.
        far: distance along a ray where sampling may stop, world units.
        notes: sentences for the person about what was found and done while loading.
        capture_to_scene: float64 ``[4, 4]``, the similarity from the coordinates of the poses as they were
            given to those of the splits; its inverse brings exports back.
        cascades: boxes that hold the scene, each twice as large as the one before, the first one `aabb`: 1 for an
            object, more for what is around it as well.
        format: which loader read it, as ``--format`` names them.
        points: float32 ``[P, 3]``, points on surfaces in the coordinates of the splits; None where the capture has
            none.
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
    """``wanted`` indices evenly spaced over ``count``, or all where there are fewer: the middle of equal
    parts."""
    wanted = min(wanted, count)
    return [int((i + 0.5) * count / wanted) for i in range(wanted)]
