"""The background color behind transparent pixels, for training, rendering and metrics.

Images with straight alpha have no colour where they are transparent. The truth and the rendering must be composited
over the same background before a loss or a metric compares them. The setting is one of three names:

- ``"white"``: as for published NeRF-synthetic figures.
- ``"black"``: as a renderer without a background gives.
- ``"random"``: another colour for every ray in training, so that a field cannot paint the background onto the object.
  Images that are rendered or evaluated need one fixed colour; they use white (:func:`evaluation_background`).
"""

import torch
from torch import Tensor

from nerf_metal.util.errors import InputError

BACKGROUNDS = ("white", "black", "random")


def check_background(name: str) -> str:
    """Return `name` if it is the name of a background.

    Raises:
        InputError: `name` is not one of `BACKGROUNDS`.
    """
    if name not in BACKGROUNDS:
        raise InputError(
            f"[background] background must be one of {', '.join(BACKGROUNDS)}, got {name!r}; "
            "use white to compare with published figures"
        )
    return name


def evaluation_background(name: str) -> str:
    """Return the background for evaluation and rendered images: `name`, or white for ``"random"``.

    Raises:
        InputError: `name` is not one of `BACKGROUNDS`.
    """
    return "white" if check_background(name) == "random" else name


def background_color(name: str, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return the background color for a batch of pixels or rays.

    Args:
        name: one of `BACKGROUNDS`.
        like: floating-point tensor ``[..., C]`` with any C (RGBA pixels, ray directions), which gives the batch shape,
            the device and the dtype.
        generator: source of the random colours. It may be on another device than `like`; the colours are drawn on the
            device of the generator.

    Returns:
        Colour in [0, 1]: ``[3]`` for white and black, ``[..., 3]`` for random (uniform, one for each pixel).

    Raises:
        InputError: `name` is not one of `BACKGROUNDS`.
    """
    if check_background(name) == "random":
        source = generator.device if generator is not None else like.device
        drawn = torch.rand((*like.shape[:-1], 3), generator=generator, device=source, dtype=like.dtype)
        return drawn.to(like.device)
    return torch.full((3,), 1.0 if name == "white" else 0.0, device=like.device, dtype=like.dtype)


def composite_over(rgba: Tensor, background: Tensor) -> Tensor:
    """Composite straight-alpha pixels over an opaque background: ``rgb * a + background * (1 - a)``.

    This is the "over" operator of Porter and Duff, "Compositing digital images" (1984). It is linear in the stored sRGB
    values, as in NeRF.

    Args:
        rgba: floating-point ``[..., 4]``, straight alpha, in [0, 1].
        background: colour ``[3]`` or ``[..., 3]``, in [0, 1].

    Returns:
        Colours ``[..., 3]`` in [0, 1], same dtype as `rgba`.
    """
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    return rgb * alpha + background * (1.0 - alpha)
