"""The NeRF network, which maps a point and a direction to a density and a colour."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn

from nerf_metal.nn.encodings import FrequencyEncoding
from nerf_metal.util.errors import InputError

MAX_ROWS = 32_766
"""Largest number of rows of a call of ``Linear``. On M1 and M2, torch before 2.14 computes wrong ``Linear`` weight
gradients on MPS if a call reduces over 32 767 rows or more (pytorch #177116, #193487). The limit holds on every device
and version, because it costs nothing."""

CPU_ROWS = 8_192
"""Number of rows of a call on a CPU. The activations stay in the cache, and far below the 32 MiB from which the
allocator maps and page-faults new memory in each call. With 4 layers of 64 units, forward and backward take 0.9 us for
a sample, and 1.0 to 1.5 us at 32 766 rows."""

RGB_PADDING = 0.001
"""Margin by which colours may exceed [0, 1], so that a saturated pixel needs no infinite logit (mip-NeRF, Barron et al.
2021, section 3 of the supplement)."""


class _TruncExp(torch.autograd.Function):
    """The function ``exp(x)`` with a gradient of at most ``exp(15)``, so that steps stay finite (instant-ngp, Müller
    et al. 2022)."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        """Return ``exp(x)``."""
        ctx.save_for_backward(x)
        return torch.exp(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad_y: torch.Tensor) -> torch.Tensor:
        """Return the gradient to ``x``."""
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad_y * torch.exp(x.clamp(max=15.0))


def trunc_exp(x: torch.Tensor) -> torch.Tensor:
    """Return ``exp(x)`` with the gradient ``exp(min(x, 15))``."""
    y: torch.Tensor = _TruncExp.apply(x)
    return y


DENSITY_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    # The shift of -1 makes the scene nearly empty at the start (mip-NeRF, Barron et al. 2021). softplus has a gradient
    # everywhere, while a ReLU that is negative everywhere never learns and leaves a blank picture.
    "softplus": lambda x: F.softplus(x - 1.0),
    "relu": F.relu,  # that of the paper; it can become 0 everywhere
    "trunc_exp": lambda x: trunc_exp(x - 1.0),
}


class FieldOutput(NamedTuple):
    """The output of the field at ``S`` samples on each of ``R`` rays.

    Attributes:
        rgbs: colours ``[R, S, 3]``.
        sigmas: densities ``[R, S]``, 1 / world unit.
    """

    rgbs: torch.Tensor
    sigmas: torch.Tensor


class NerfField(nn.Module):
    """The multilayer perceptron of NeRF (Mildenhall et al. 2020, figure 7).

    ``depth`` ReLU layers of ``hidden_width`` units take the encoded position, which enters again after layer ``skip``.
    The last of them gives the density. Together with the encoded direction it also gives the colour, through a layer of
    half the width. The paper has one more linear layer between the trunk and the colour branch. It has no activation,
    and two linear maps in a row are one, so it is left out.

    Args:
        hidden_width: number of units in a layer.
        depth: number of layers of the trunk, at least 1.
        skip: number of layers after which the position enters again; never if it is 0 or at least ``depth``.
        position_bands: number of frequency bands of the position encoding.
        direction_bands: number of frequency bands of the direction encoding.
        density_activation: name of the function for the density, see :data:`DENSITY_ACTIVATIONS`.

    Attributes:
        max_rows: largest number of rows of a call. It is less than :data:`MAX_ROWS` if a self-test found that larger
            calls are wrong.

    Raises:
        InputError: the density activation is unknown.
    """

    def __init__(
        self,
        *,
        hidden_width: int,
        depth: int,
        skip: int,
        position_bands: int,
        direction_bands: int,
        density_activation: str,
    ) -> None:
        """Make the layers. Their initial weights are drawn from torch's random state."""
        super().__init__()
        if density_activation not in DENSITY_ACTIVATIONS:
            raise InputError(
                f"[NerfField] density_activation must be one of {', '.join(DENSITY_ACTIVATIONS)}, "
                f"got {density_activation!r}; use softplus if in doubt"
            )
        self.max_rows = MAX_ROWS
        self.skip = skip
        self.density_activation = density_activation
        self.encode_position = FrequencyEncoding(position_bands)
        self.encode_direction = FrequencyEncoding(direction_bands)
        position_width = self.encode_position.output_width
        self.layer_widths = [position_width] + [
            hidden_width + (position_width if layer == skip else 0) for layer in range(1, depth)
        ]
        self.trunk = nn.ModuleList(nn.Linear(width, hidden_width) for width in self.layer_widths)
        self.density = nn.Linear(hidden_width, 1)
        # One linear layer on (features, direction), written as two, so that the direction of a ray is encoded and
        # multiplied once and not for each sample.
        self.color_features = nn.Linear(hidden_width, hidden_width // 2)
        self.color_direction = nn.Linear(self.encode_direction.output_width, hidden_width // 2, bias=False)
        self.color = nn.Linear(hidden_width // 2, 3)
        # Glorot and Bengio 2010, as in the authors' code. The initial weights of torch's default are too small: the
        # first minute of training is lost while they grow.
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, positions: torch.Tensor, directions: torch.Tensor) -> FieldOutput:
        """Evaluate the field at the samples of rays, in calls of at most ``max_rows`` rows (:data:`CPU_ROWS` on a CPU).

        Args:
            positions: positions of the samples, float32 ``[R, S, 3]`` in [-1, 1].
            directions: directions of the rays, float32 ``[R, 3]``, unit length.

        Raises:
            InputError: a ray has more than ``max_rows`` samples.
        """
        samples = positions.shape[1]
        if samples > self.max_rows:
            raise InputError(f"[NerfField] samples of a ray must be at most {self.max_rows}, got {samples}; use fewer")
        rays = max(1, self.rows(positions.device) // max(1, samples))
        parts = [self._chunk(p, d) for p, d in zip(positions.split(rays), directions.split(rays), strict=True)]
        if len(parts) == 1:
            return parts[0]
        return FieldOutput(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def rows(self, device: torch.device) -> int:
        """Return the largest number of rows of a call on a device."""
        return min(CPU_ROWS, self.max_rows) if device.type == "cpu" else self.max_rows

    def _chunk(self, positions: torch.Tensor, directions: torch.Tensor) -> FieldOutput:
        rays, samples = positions.shape[:2]
        encoded = self.encode_position(positions.reshape(-1, 3).contiguous())
        hidden = encoded
        for layer, linear in enumerate(self.trunk):
            if layer == self.skip and layer > 0:
                hidden = torch.cat((encoded, hidden), dim=-1)
            hidden = F.relu(linear(hidden), inplace=True)
        sigmas = DENSITY_ACTIVATIONS[self.density_activation](self.density(hidden))
        along = self.color_direction(self.encode_direction(directions))  # [rays, width / 2]
        features = self.color_features(hidden).view(rays, samples, -1) + along[:, None]
        logits = self.color(F.relu(features, inplace=True).view(rays * samples, -1))
        rgbs = torch.sigmoid(logits) * (1.0 + 2.0 * RGB_PADDING) - RGB_PADDING
        return FieldOutput(rgbs.view(rays, samples, 3), sigmas.view(rays, samples))


class CoarseFineField(nn.Module):
    """The two networks of NeRF with their box (Mildenhall et al. 2020, section 5.2).

    Args:
        aabb: box float32 ``[2, 3]``, world units. It is a buffer, so a checkpoint holds it.
        **options: options of both networks, see :class:`NerfField`.
    """

    aabb: torch.Tensor

    def __init__(self, aabb: torch.Tensor, **options: int | str) -> None:
        """Make both networks, the coarse one first."""
        super().__init__()
        self.register_buffer("aabb", aabb.detach().clone())
        self.coarse = NerfField(**options)  # type: ignore[arg-type]
        self.fine = NerfField(**options)  # type: ignore[arg-type]

    def normalized(self, positions: torch.Tensor) -> torch.Tensor:
        """Map world positions ``[..., 3]`` in the box to [-1, 1], axis by axis."""
        return (positions - self.aabb[0]) * (2.0 / (self.aabb[1] - self.aabb[0])) - 1.0
