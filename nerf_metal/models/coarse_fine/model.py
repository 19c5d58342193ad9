"""The method of the NeRF paper: two networks, coarse and fine (every preset but fast)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn

from nerf_metal.data.batches import RayBatch, RayBatches, step_seed
from nerf_metal.data.hull import tight_box
from nerf_metal.data.scene import Split
from nerf_metal.models import memory
from nerf_metal.models.average import update_average
from nerf_metal.models.base import Step
from nerf_metal.models.coarse_fine.field import CoarseFineField
from nerf_metal.models.coarse_fine.rendering import RenderedRays, render_image, render_rays
from nerf_metal.models.coarse_fine.sampler import Sampler
from nerf_metal.models.losses import photometric_loss
from nerf_metal.models.pixels import RenderedPixels, inside_box
from nerf_metal.models.view_corrections import ViewCorrections
from nerf_metal.nn.occupancy_grid import outermost_box
from nerf_metal.ops import Composited
from nerf_metal.train.health import LayerGroups, batch_signs, gradient_norms
from nerf_metal.train.matmul_check import MatmulFinding, check_weight_gradients
from nerf_metal.train.options import TrainConfig


class CoarseFineMethod:
    """Mildenhall et al. 2020, sections 4 and 5; see :class:`nerf_metal.models.base.Method`."""

    def __init__(self, config: TrainConfig, aabb: torch.Tensor, near: float, far: float, views: int) -> None:
        """Make the networks; see :func:`nerf_metal.models.build_method`."""
        self.config = config
        self.field = CoarseFineField(
            outermost_box(aabb, config.cascades or 1),
            hidden_width=config.hidden_width,
            depth=config.depth,
            skip=config.skip,
            position_levels=config.position_levels,
            direction_levels=config.direction_levels,
            density_activation=config.density_activation,
        )
        self.pictured = self.field
        self.module: nn.Module = self.field
        parts: dict[str, nn.Module] = {}
        if config.ema_decay > 0:
            self.pictured = parts["average"] = copy.deepcopy(self.field).requires_grad_(False)
        self.corrections = ViewCorrections(config, views)
        if any(True for _ in self.corrections.parameters()):
            parts["corrections"] = self.corrections
        if parts:
            self.module = nn.ModuleDict({"field": self.field, **parts})
        self.sampler = Sampler(config.num_samples, config.num_importance, near, far, config.backend)
        self._chunk_rays = 0

    def to(self, device: torch.device) -> None:
        """Move the networks."""
        self.module.to(device)

    def measure(self, split: Split) -> None:
        """Find the box that the object fills."""
        if self.config.tight_box:
            box = tight_box(split, self.field.aabb.cpu())
            for field in (self.field, self.pictured):
                field.aabb.copy_(box)

    def prepare(self, split: Split, image_bytes: int) -> torch.optim.Optimizer:
        """Make Adam and the batches."""
        config, sampler = self.config, self.sampler
        # eps as in instant-ngp (Müller et al. 2022): of a mean over rays, gradients are small numbers.
        corrections = self.corrections.rates(config)
        self._optimizer = torch.optim.Adam(
            [
                {"params": list(self.field.parameters()), "rate": 1.0},
                *({"params": [parameter], "rate": rate} for parameter, rate in corrections),
            ],
            lr=config.lr,
            eps=1e-15,
            fused=True,
        )
        fixed = memory.fixed_bytes(self.module, image_bytes)
        per_ray = memory.training_bytes_per_ray(self.field, sampler)
        self._step_rays = memory.rays_within(config.max_memory, fixed, per_ray)
        self._batches = RayBatches(
            split,
            self.field.aabb.cpu(),
            near=sampler.near,
            far=sampler.far,
            rays=config.batch_rays,
            background=config.background,
            seed=config.seed,
            device=self.field.aabb.device,
            precrop_steps=config.precrop_steps,
        )
        self.groups: LayerGroups = {
            f"{name}.{part}": [p for key, p in network.named_parameters() if key.startswith(part)]
            for name, network in (("coarse", self.field.coarse), ("fine", self.field.fine))
            for part in ("trunk", "density", "color")
        } | {name: [parameter] for name, parameter in self.corrections.named_parameters()}
        self.grad_norms = torch.zeros(len(self.groups), device=self.field.aabb.device)
        self.reserve(image_bytes)
        return self._optimizer

    def reserve(self, image_bytes: int) -> None:
        """Decide how many rays are rendered at once."""
        fixed = memory.fixed_bytes(self.module, image_bytes)
        self._chunk_rays = memory.chunk_rays(self.config.max_memory, fixed, self.field, self.sampler)

    def self_test(self) -> MatmulFinding:
        """Of every ``Linear``, at the rows of the field's calls, and on a GPU at those of calls that were not cut."""
        config, field, device = self.config, self.field, self.field.aabb.device
        samples = config.num_samples + config.num_importance
        rows_cut = min(config.batch_rays * samples, field.fine.rows(device))
        linears = [part for part in field.modules() if isinstance(part, nn.Linear)]
        finding = check_weight_gradients(
            [(linear.in_features, linear.out_features) for linear in linears],
            rows_cut=rows_cut,
            rows_whole=rows_cut if device.type == "cpu" else config.batch_rays * samples,
            device=device,
            least_rows=samples,
        )
        if finding.usable and finding.rows_used < rows_cut:
            for network in (field.coarse, field.fine, self.pictured.coarse, self.pictured.fine):
                network.max_rows = finding.rows_used
        return finding

    def train_step(self, step: int, lr: float, *, measure: bool = False) -> Step:
        """One step of Adam on a batch of rays."""
        config, model = self.config, self.field
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["rate"]
        batch = self._batches.draw(step)
        self._optimizer.zero_grad(set_to_none=True)
        total, error = torch.zeros((), device=model.aabb.device), torch.zeros((), device=model.aabb.device)
        opacity = []
        # Parts of a batch, where it does not fit as a whole: their gradients add up to the batch's.
        for index, part in enumerate(batch.split(self._step_rays)):
            rendered = render_rays(
                model,
                self.sampler,
                *self.corrections.rays(part.rays_o, part.rays_d, part.views),
                background=part.background,
                stratified=True,
                seed=step_seed(config.seed, step, index),
            )
            share = len(part.truth) / len(batch.truth)
            rendered = RenderedRays(*(self._exposed(composited, part) for composited in rendered))
            loss = (photometric_loss(rendered, part.truth) + self.corrections.penalty()) * share
            loss.backward()
            total += loss.detach()
            error += F.mse_loss(rendered.fine.rgb.detach(), part.truth) * share
            opacity.append(rendered.fine.opacity.detach())
        # The norms are small change here, and clipping needs them anyway: measured in every step.
        self.grad_norms = gradient_norms(self.groups)
        norm = self.grad_norms.norm()
        if config.clip_norm > 0:
            nn.utils.clip_grads_with_norm_(model.parameters(), config.clip_norm, norm)
        self._optimizer.step()
        if self.pictured is not model:
            update_average(self.pictured, model, config.ema_decay, step)
        signs = batch_signs(torch.cat(opacity), batch.truth, batch.background, batch.alpha)
        samples = len(batch.truth) * (2 * config.num_samples + config.num_importance)
        return Step(total, error, signs, norm, len(batch.truth), samples)

    def _exposed(self, composited: Composited, batch: RayBatch) -> Composited:
        """As each ray's image was exposed."""
        rgb = self.corrections.expose(composited.rgb, composited.opacity, batch.background, batch.views)
        return composited._replace(rgb=rgb)

    @property
    def box(self) -> torch.Tensor:
        """The box of both networks."""
        return self.pictured.aabb

    @torch.no_grad()
    def density(self, positions: torch.Tensor) -> torch.Tensor:
        """Densities of the fine network."""
        return self._fine(positions, torch.zeros_like(positions))[1]

    @torch.no_grad()
    def colors(self, positions: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Colours of the fine network."""
        return self._fine(positions, directions)[0]

    def _fine(self, positions: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Colours ``[S, 3]`` and densities ``[S]``: each point is a ray of one sample."""
        field, inside = self.pictured, inside_box(positions, self.box)
        rgbs, sigmas = field.fine(field.normalized(positions)[:, None], directions)
        return rgbs[:, 0].clamp(0.0, 1.0), sigmas[:, 0] * inside

    def render(self, rays_o: torch.Tensor, rays_d: torch.Tensor, background: torch.Tensor) -> RenderedPixels:
        """Pixels of the fine network, of the averaged weights where there are any."""
        return render_image(
            self.pictured, self.sampler, rays_o, rays_d, background=background, rays_per_chunk=self._chunk_rays
        )
