"""The background behind transparent pixels: one setting for the loader, the renderer and the metrics.

Pictures with straight alpha have no colour of their own where nothing is; the truth and the rendering must be
put over the same background before a loss or a metric compares them. The setting is one of three names:

- ``"white"``: what published NeRF-synthetic figures use.
- ``"black"``: what a renderer without a background gives.
- ``"random"``: in training another colour for every ray, so that a field cannot paint the background onto the
  object; pictures to look at and to measure need one fixed colour and go over white
  (`evaluation_background`).
"""

import torch
from torch import Tensor

from nerf_metal.util.errors import InputError

BACKGROUNDS = ("white", "black", "random")


def check_background(name: str) -> str:
    """Return `name` if it is a background's name.

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
    """The background for evaluation and pictures: `name` itself, but white for ``"random"``.

    Raises:
        InputError: `name` is not one of `BACKGROUNDS`.
    """
    return "white" if check_background(name) == "random" else name


def background_color(name: str, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The colour to put behind a batch of pixels or rays.

    Args:
        name: one of `BACKGROUNDS`.
        like: floating-point ``[..., C]``, any C (RGBA pixels, ray directions): gives the batch shape, device
            and dtype.
        generator: for ``"random"``; it may live on another device than `like` (the draw is made on its own).

    Returns:
        Colour in [0, 1], ``[3]`` for white and black, ``[..., 3]`` for random (uniform, one per pixel).

    Raises:
        InputError: `name` is not one of `BACKGROUNDS`.
    """
    if check_background(name) == "random":
        source = generator.device if generator is not None else like.device
        drawn = torch.rand((*like.shape[:-1], 3), generator=generator, device=source, dtype=like.dtype)
        return drawn.to(like.device)
    return torch.full((3,), 1.0 if name == "white" else 0.0, device=like.device, dtype=like.dtype)


def composite_over(rgba: Tensor, background: Tensor) -> Tensor:
    """Put straight-alpha pixels over a background: ``rgb * a + background * (1 - a)``.

    The "over" operator of Porter and Duff, "Compositing digital images" (1984), over an opaque background,
    linear in the stored sRGB values as NeRF does.

    Args:
        rgba: floating-point ``[..., 4]``, straight alpha, in [0, 1].
        background: ``[3]`` or ``[..., 3]``, in [0, 1].

    Returns:
        ``[..., 3]`` in [0, 1].
    """
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    return rgb * alpha + background * (1.0 - alpha)
