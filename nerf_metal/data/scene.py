"""What every loader gives: a scene of splits, images in memory as bytes."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from nerf_metal.cameras import Intrinsics
from nerf_metal.errors import InputError


@dataclass(frozen=True, eq=False)
class Split:
    """Posed images that belong together (train, val or test), all of one size and one camera.

    Attributes:
        name: ``"train"``, ``"val"`` or ``"test"``.
        images: uint8 ``[N, H, W, 4]``, RGB and straight alpha; alpha is 255 where a file has none. Bytes,
            because 100 views of 800x800 are 256 MB like this and 1 GB as float32.
        c2w: float32 ``[N, 4, 4]``, conventions of `nerf_metal.cameras`.
        intrinsics: the camera of all images.
        names: ``N`` names, the images' paths relative to the scene without extension.
        has_alpha: whether any file had an alpha channel.

    Raises:
        InputError: shapes or dtypes do not agree.
    """

    name: str
    images: Tensor
    c2w: Tensor
    intrinsics: Intrinsics
    names: list[str]
    has_alpha: bool

    def __post_init__(self) -> None:
        """Check that the parts agree."""
        n = len(self.names)
        expected = (n, self.intrinsics.height, self.intrinsics.width, 4)
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

    def pixels(self, image_index: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """A batch of pixels as floats.

        Args:
            image_index: integer ``[...]``, which image.
            y: integer ``[...]``, row from the top.
            x: integer ``[...]``, column from the left.

        Returns:
            float32 ``[..., 4]`` in [0, 1]: RGB and straight alpha.
        """
        return self.images[image_index, y, x].to(torch.float32) / 255.0


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene to train on and to measure against.

    Attributes:
        name: short name for titles.
        source: where it came from: a folder, or ``"embedded"``.
        splits: by name.
        aabb: float32 ``[2, 3]``, the corners of the box that holds everything to be reconstructed, world
            units.
        near: distance along a ray where sampling may start, world units.
        far: distance along a ray where sampling may stop, world units.
        notes: sentences for the person about what was found and done while loading.
    """

    name: str
    source: str
    splits: dict[str, Split]
    aabb: Tensor
    near: float
    far: float
    notes: list[str] = field(default_factory=list)


def spread(count: int, wanted: int) -> list[int]:
    """``wanted`` indices evenly spaced over ``count``, or all where there are fewer: the middle of equal
    parts."""
    wanted = min(wanted, count)
    return [int((i + 0.5) * count / wanted) for i in range(wanted)]
