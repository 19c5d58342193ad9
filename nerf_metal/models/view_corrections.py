"""What is learnt of each training image besides the scene: how its camera stood, and how it was exposed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nerf_metal.models.options import CommonOptions

POSE_PENALTY = 1e-2
"""Of a pose's mean squared turn and shift, in the loss: what no picture tells, such as a drift of all cameras together,
goes back to 0. Small beside the photometric loss: 0.01 radians cost 1e-6. nerfstudio has 1e-2 and 1e-3."""
EXPOSURE_LR = 2e-3
"""Learning rate of the gains at the start: a stop's half, 0.35, in some two hundred steps."""


class ViewCorrections(nn.Module):
    """Learnt corrections of the poses and exposures of training images. What is off stays at 0 and does not learn.

    Args:
        config: its ``refine_poses`` and ``appearance`` say what learns.
        views: number of training images.

    Attributes:
        poses: turn (axis times radians, about the camera's place, world axes) and shift (world units) of each camera,
            ``[views, 6]``: an element of SO(3) x R^3, whose turn does not move the camera.
        gains: logarithm of the factor on each colour, ``[views, 3]``.
    """

    def __init__(self, config: CommonOptions, views: int) -> None:
        """Start without any correction."""
        super().__init__()
        self._pose_lr = config.pose_lr
        self.poses = nn.Parameter(torch.zeros(views, 6), requires_grad=config.refine_poses)
        self.gains = nn.Parameter(torch.zeros(views, 3), requires_grad=config.appearance == "exposure")

    def learning(self) -> dict[str, nn.Parameter]:
        """Return the parameters that learn, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return a group for an optimizer for each parameter that learns. Its ``rate`` is a factor on ``lr``."""
        rates = {"poses": self._pose_lr / lr, "gains": EXPOSURE_LR / lr}
        return [{"params": [parameter], "rate": rates[name]} for name, parameter in self.learning().items()]

    def rays(
        self, rays_o: torch.Tensor, rays_d: torch.Tensor, views: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rays of cameras as they are thought to stand, with gradients to ``poses``.

        Args:
            rays_o: ``[R, 3]``, world units.
            rays_d: ``[R, 3]``, unit length.
            views: image of each ray, int64 ``[R]``.
        """
        if not self.poses.requires_grad:
            return rays_o, rays_d
        turn, shift = self.poses[views].split(3, dim=-1)
        return rays_o + shift, rotate(turn, rays_d)

    def expose(
        self, rgb: torch.Tensor, opacity: torch.Tensor, background: torch.Tensor, views: torch.Tensor
    ) -> torch.Tensor:
        """Colours as each image was exposed: gains on what was photographed, not on the background behind it.

        Args:
            rgb: composited ``[R, 3]``.
            opacity: ``[R]``.
            background: ``[R, 3]``.
            views: image of each ray, int64 ``[R]``.
        """
        if not self.gains.requires_grad:
            return rgb
        behind = background * (1.0 - opacity)[:, None]
        # Only what differs between the images: a gain of all is the scene's own brightness.
        gains = self.gains - self.gains.mean(0)
        return (rgb - behind) * gains[views].exp() + behind

    def penalty(self) -> torch.Tensor | float:
        """What the corrections add to the loss."""
        return POSE_PENALTY * self.poses.square().mean() if self.poses.requires_grad else 0.0


def rotate(turn: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Turn ``vectors [R, 3]`` about axes ``turn [R, 3]`` by their lengths in radians (Rodrigues' formula).

    Its gradient is finite at a turn of 0, where every pose starts.
    """
    square = (turn * turn).sum(-1, keepdim=True)
    # sin(a) / a and (1 - cos(a)) / a^2 as series near 0: exact to float32 below 0.1 radians.
    small = square < 1e-2
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    first = torch.where(small, 1.0 - square / 6.0 * (1.0 - square / 20.0), angle.sin() / angle)
    second = torch.where(small, 0.5 - square / 24.0 * (1.0 - square / 30.0), (1.0 - angle.cos()) / angle.square())
    once = torch.linalg.cross(turn, vectors)
    return vectors + first * once + second * torch.linalg.cross(turn, once)
