"""The model of the NeRF paper with two networks, coarse and fine (all presets except fast)."""

from __future__ import annotations

import torch
from torch import nn

from nerf_metal.data.batches import RayBatch, RayBatches
from nerf_metal.data.hull import tight_box
from nerf_metal.data.scene import Split
from nerf_metal.models import memory
from nerf_metal.models.base import LayerGroups, Model, Space, StepLoss
from nerf_metal.models.coarse_fine.field import CoarseFineField
from nerf_metal.models.coarse_fine.options import CoarseFineConfig
from nerf_metal.models.coarse_fine.rendering import RenderedRays, render_image, render_rays
from nerf_metal.models.coarse_fine.sampler import Sampler
from nerf_metal.models.losses import photometric_loss
from nerf_metal.models.matmul_check import MatmulFinding, check_weight_gradients
from nerf_metal.models.pixels import RenderedPixels, inside_box
from nerf_metal.models.view_corrections import ViewCorrections
from nerf_metal.nn.occupancy_grid import outermost_box
from nerf_metal.ops import Composited


class CoarseFineModel(Model):
    """The model of the NeRF paper (Mildenhall et al. 2020, sections 4 and 5).

    Attributes:
        field: the two networks with their box.
        corrections: corrections of the poses and exposures of the training images.
        sampler: sampler of the rays.
        chunk_rays: number of rays that are rendered at once.

    Args:
        config: options of the model.
        space: facts about the scene.
    """

    Config = CoarseFineConfig
    config: CoarseFineConfig

    def __init__(self, config: CoarseFineConfig, space: Space) -> None:
        """Make the networks. Their initial weights are drawn from torch's random state."""
        super().__init__(config, space)
        self.batch_rays = config.batch_rays
        self.field = CoarseFineField(
            outermost_box(space.aabb, config.cascades or space.cascades),
            hidden_width=config.hidden_width,
            depth=config.depth,
            skip=config.skip,
            position_bands=config.position_bands,
            direction_bands=config.direction_bands,
            density_activation=config.density_activation,
        )
        self.corrections = ViewCorrections(config, space.views)
        self.sampler = Sampler(config.num_samples, config.num_importance, space.near, space.far, config.backend)
        self.chunk_rays = 1024  # until limit_memory is called: 40 MB with the widest preset

    @property
    def box(self) -> torch.Tensor:
        """Box ``[2, 3]`` of both networks, world units."""
        return self.field.aabb

    def fit_to(self, split: Split) -> None:
        """Set the box to the box of the object, which follows from the alpha of the images."""
        if self.config.tight_box:
            self.field.aabb.copy_(tight_box(split, self.field.aabb.cpu()))

    def loss(self, batch: RayBatch, step: int) -> StepLoss:
        """Compute the sum of the mean squared errors of both networks, with gradients."""
        rays_o, rays_d = self.corrections.rays(batch.rays_o, batch.rays_d, batch.views)
        rendered = render_rays(
            self.field, self.sampler, rays_o, rays_d, background=batch.background, stratified=True, seed=batch.seed
        )
        rendered = RenderedRays(*(self._exposed(composited, batch) for composited in rendered))
        loss = photometric_loss(rendered, batch.truth) + self.corrections.penalty()
        samples = len(batch.truth) * (2 * self.config.num_samples + self.config.num_importance)
        return StepLoss(loss, rendered.fine.rgb.detach(), rendered.fine.opacity.detach(), samples)

    def render(self, rays_o: torch.Tensor, rays_d: torch.Tensor, background: torch.Tensor) -> RenderedPixels:
        """Render rays with the fine network."""
        return render_image(
            self.field, self.sampler, rays_o, rays_d, background=background, rays_per_chunk=self.chunk_rays
        )

    @torch.no_grad()
    def density(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the densities of the fine network."""
        return self._fine(positions, torch.zeros_like(positions))[1]

    @torch.no_grad()
    def colors(self, positions: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Return the colours of the fine network."""
        return self._fine(positions, directions)[0]

    def batches(self, split: Split, *, background: str, seed: int, device: torch.device) -> RayBatches:
        """Return batches of rays that hit the box, if there are enough of them."""
        return RayBatches(
            split,
            self.field.aabb.cpu(),
            near=self.near,
            far=self.far,
            background=background,
            seed=seed,
            device=device,
            precrop_steps=self.config.precrop_steps,
        )

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Return Adam with the ``eps`` of instant-ngp (Müller et al. 2022), because gradients of a mean are small."""
        field = {"params": list(self.field.parameters())}
        return torch.optim.Adam([field, *self.corrections.parameter_groups(lr)], lr=lr, eps=1e-15, fused=True)

    def layer_groups(self) -> LayerGroups:
        """Return the trunk, density and colour layers of each network, and the corrections that learn."""
        return {
            f"{name}.{part}": [p for key, p in network.named_parameters() if key.startswith(part)]
            for name, network in (("coarse", self.field.coarse), ("fine", self.field.fine))
            for part in ("trunk", "density", "color")
        } | {name: [parameter] for name, parameter in self.corrections.learning().items()}

    def limit_memory(self, max_memory: float, held_bytes: int, *, training: bool) -> None:
        """Choose the numbers of rays that are rendered at once and trained on at once."""
        fixed = memory.fixed_bytes(self, held_bytes)
        if training:
            per_ray = memory.training_bytes_per_ray(self.field, self.sampler)
            self.part_rays = memory.rays_within(max_memory, fixed, per_ray)
        self.chunk_rays = memory.chunk_rays(max_memory, fixed, self.field, self.sampler)

    def self_test(self) -> MatmulFinding:
        """Check every ``Linear`` at the rows of the field's calls, and on a GPU also at the rows of a whole batch."""
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
            for network in (field.coarse, field.fine):
                network.max_rows = finding.rows_used
        return finding

    def _exposed(self, composited: Composited, batch: RayBatch) -> Composited:
        """Return rays with colours at the exposure of their images."""
        rgb = self.corrections.expose(composited.rgb, composited.opacity, batch.background, batch.views)
        return composited._replace(rgb=rgb)

    def _fine(self, positions: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return colours ``[S, 3]`` and densities ``[S]``. Each point is a ray with one sample."""
        inside = inside_box(positions, self.box)
        rgbs, sigmas = self.field.fine(self.field.normalized(positions)[:, None], directions)
        return rgbs[:, 0].clamp(0.0, 1.0), sigmas[:, 0] * inside
