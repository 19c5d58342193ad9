"""Corrections of the pose and the exposure of each training image, which are learnt together with the scene."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nerf_metal.models.options import CommonOptions

POSE_PENALTY = 1e-2
"""Factor on the mean squared turn and shift of the poses, which is added to the loss. It returns to 0 what no picture
shows, such as a common motion of all cameras. It is small compared with the photometric loss: 0.01 radians cost 1e-6.
nerfstudio uses 1e-2 and 1e-3."""
EXPOSURE_LR = 2e-3
"""Initial learning rate of the gains. A gain learns half a stop, 0.35, in about two hundred steps."""


class ViewCorrections(nn.Module):
    """The learnt corrections of the poses and exposures of training images.

    A correction that is off stays at 0 and does not learn.

    Args:
        config: options of the model. ``refine_poses`` and ``appearance`` switch the corrections on.
        views: number of training images.

    Attributes:
        poses: turn (axis times radians, about the camera's position, along world axes) and shift (world units) of each
            camera, ``[views, 6]``. They are an element of SO(3) x R^3, so the turn does not move the camera.
        gains: logarithms of the factors on the colour channels of each image, ``[views, 3]``.
    """

    def __init__(self, config: CommonOptions, views: int) -> None:
        """Start with all corrections at 0."""
        super().__init__()
        self._pose_lr = config.pose_lr
        self.poses = nn.Parameter(torch.zeros(views, 6), requires_grad=config.refine_poses)
        self.gains = nn.Parameter(torch.zeros(views, 3), requires_grad=config.appearance == "exposure")

    def learning(self) -> dict[str, nn.Parameter]:
        """Return the parameters that learn, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return one group for the optimizer for each parameter that learns. Its ``rate`` is a factor on ``lr``.

        Args:
            lr: initial learning rate of the field.
        """
        rates = {"poses": self._pose_lr / lr, "gains": EXPOSURE_LR / lr}
        return [{"params": [parameter], "rate": rates[name]} for name, parameter in self.learning().items()]

    def rays(
        self, rays_o: torch.Tensor, rays_d: torch.Tensor, views: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the origins and directions of rays with corrected poses, with gradients to ``poses``.

        Args:
            rays_o: origins of the rays, ``[R, 3]``, world units.
            rays_d: directions of the rays, ``[R, 3]``, unit length.
            views: index of each ray's image, int64 ``[R]``.
        """
        if not self.poses.requires_grad:
            return rays_o, rays_d
        turn, shift = self.poses[views].split(3, dim=-1)
        return rays_o + shift, rotate(turn, rays_d)

    def expose(
        self, rgb: torch.Tensor, opacity: torch.Tensor, background: torch.Tensor, views: torch.Tensor
    ) -> torch.Tensor:
        """Return colours at the exposure of each ray's image. The gains do not change the background.

        Args:
            rgb: composited colours ``[R, 3]``.
            opacity: composited opacities ``[R]``.
            background: background color of each ray, ``[R, 3]``.
            views: index of each ray's image, int64 ``[R]``.
        """
        if not self.gains.requires_grad:
            return rgb
        behind = background * (1.0 - opacity)[:, None]
        # Only differences between the images count, because a common gain is the brightness of the scene.
        gains = self.gains - self.gains.mean(0)
        return (rgb - behind) * gains[views].exp() + behind

    def penalty(self) -> torch.Tensor | float:
        """Return the term that the corrections add to the loss."""
        return POSE_PENALTY * self.poses.square().mean() if self.poses.requires_grad else 0.0


def rotate(turn: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Rotate ``vectors [R, 3]`` about the axes ``turn [R, 3]`` by the lengths of the axes in radians.

    This is Rodrigues' formula. Its gradient is finite at a turn of 0, where every pose starts.
    """
    square = (turn * turn).sum(-1, keepdim=True)
    # sin(a) / a and (1 - cos(a)) / a^2 as series near 0: exact to float32 below 0.1 radians.
    small = square < 1e-2
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    first = torch.where(small, 1.0 - square / 6.0 * (1.0 - square / 20.0), angle.sin() / angle)
    second = torch.where(small, 0.5 - square / 24.0 * (1.0 - square / 30.0), (1.0 - angle.cos()) / angle.square())
    once = torch.linalg.cross(turn, vectors)
    return vectors + first * once + second * torch.linalg.cross(turn, once)
