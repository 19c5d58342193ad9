"""The method of instant-ngp: a hash grid and small fused networks, sampled through an occupancy grid (preset fast)."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn

from nerf_metal import memory
from nerf_metal.batches import PixelBatches, step_seed
from nerf_metal.config import TrainConfig
from nerf_metal.data.scene import Split
from nerf_metal.grid_render import GridSampler, render_image, render_samples, visible_samples
from nerf_metal.hash_field import HashField
from nerf_metal.health import LayerGroups, batch_signs, gradient_norms
from nerf_metal.hull import hull_box, hull_cells, visual_hull
from nerf_metal.losses import PHOTOMETRIC
from nerf_metal.matmul_check import MatmulFinding, check_mlp_gradients
from nerf_metal.methods.average import update_average
from nerf_metal.methods.base import Step
from nerf_metal.occupancy_grid import OccupancyGrid
from nerf_metal.optimizers import FusedAdam
from nerf_metal.pixels import RenderedPixels
from nerf_metal.view_corrections import ViewCorrections

UPDATE_EVERY = 16
"""Steps between updates of the occupancy grid, as in instant-ngp."""
UPDATE_CELLS = 2**17
"""Cells looked at in an update: a sixteenth of 128^3, as many as in two steps."""
EARLY_DECAY, LATE_DECAY = 0.7, 0.95
"""What an update keeps of a cell's density. At 0.95, instant-ngp's, empty space is remembered as full for hundreds of
steps; while all cells are looked at often, less memory is as safe. Without alpha it is not: a fog fills the pictures at
the start, and what lies thin in it is forgotten before it is looked at again."""
OPAQUE_STEP = 0.01
"""Opacity of a step from which a cell counts as occupied: instant-ngp's least optical thickness."""
FEWEST_RAYS = 64
"""Fewest rays of a step, however many samples each has."""
FIRST_RAYS = 1024
"""Rays of the first step; from then on as many as give the samples wanted."""
MOST_RAYS = 2**17
"""Most rays of a step: where next to nothing is left to sample, more would only march through empty space."""
RENDER_RAYS = 8192
"""Rays of a rendered chunk: as many samples as a few steps have."""
MOST_MARCHED = 4
"""Samples marched for each one wanted, at most: fewer rays where more of them are hidden. Two or three are usual."""
MARCH_ROOM, MARCH_ROUND = 1.25, 2**14
"""Room for samples on a GPU, which does not wait for their number: beyond what the step before had for as many rays,
and rounded, so that memory is used again. The mean over thousands of rays moves by less from step to step."""
HALVE_STEP_EVERY = 50
"""Steps in which the longer samples of the start come down by half: the grid has found most of the empty space by
then."""
CONE_ANGLE = 1.0 / 256.0
"""Growth of samples with their distance where there are several cascades: as in instant-ngp, about a pixel's."""
HULL_RESOLUTION = 128
"""Voxels of the visual hull along an axis of the scene's box: finer ones take seconds and exclude little more."""


class HashGridModule(nn.Module):
    """What a checkpoint of the method holds.

    Attributes:
        field: what learns.
        average: its weights' moving average, which pictures are made from.
        grid: where the scene is.
        corrections: of the training images.
        rays: of the next step: it follows the samples of the steps before.
    """

    def __init__(self, field: HashField, grid: OccupancyGrid, corrections: ViewCorrections) -> None:
        """Start the average at the field."""
        super().__init__()
        self.field, self.grid, self.corrections = field, grid, corrections
        self.average = copy.deepcopy(field).requires_grad_(False)
        self.rays = FIRST_RAYS

    def get_extra_state(self) -> torch.Tensor:
        """The number of rays, for a checkpoint."""
        return torch.tensor(self.rays)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """The number of rays, from a checkpoint."""
        self.rays = int(state)


class HashGridMethod:
    """Müller et al. 2022, section 5.4 and appendix E; see :class:`nerf_metal.methods.base.Method`."""

    def __init__(self, config: TrainConfig, aabb: torch.Tensor, near: float, far: float, views: int) -> None:
        """Make the field and a full grid; see :func:`nerf_metal.methods.build_method`."""
        self.config = config
        cascades = config.cascades or 1
        field = HashField(
            aabb,
            cascades=cascades,
            levels=config.levels,
            features=config.level_features,
            log2_table_size=config.log2_table_size,
            base_resolution=config.base_resolution,
            finest_resolution=config.finest_resolution,
            width=config.hidden_width,
            deterministic=config.deterministic,
            backend=config.backend,
        )
        grid = OccupancyGrid(aabb, config.grid_resolution, cascades, backend=config.backend)
        self.module = HashGridModule(field, grid, ViewCorrections(config, views))
        self._near, self._far, self._step_size = near, far, 0.0
        self._marched_per_ray: float | None = None  # of the step before, where it is known

    def to(self, device: torch.device) -> None:
        """Move field, average and grid."""
        self.module.to(device)

    def measure(self, split: Split) -> None:
        """Find the box that the object fills, and where in it nothing can be: rays are sampled nowhere else from the
        first step on. Without alpha there is no hull, and the grid finds empty space by itself."""
        module = self.module
        if not (self.config.tight_box and split.has_alpha):
            return
        aabb = module.grid.aabb.clone()
        hull = visual_hull(split, aabb, min(HULL_RESOLUTION, module.grid.resolution))
        box = hull_box(hull, aabb)
        for part in (module.field, module.average, module.grid):
            part.aabb.copy_(box)
        module.grid.mark(hull_cells(hull, aabb, box, module.grid.resolution))

    def prepare(self, split: Split, image_bytes: int) -> torch.optim.Optimizer:
        """Make Adam, and the table's gradient once for all steps."""
        field, config = self.module.field, self.config
        self._bounded = self.module.grid.aabb.device.type != "cpu"  # reading a number back waits for a GPU
        memory.keep_freed_memory()
        memory.check_hash_grid(config.max_memory, image_bytes, field, config.batch_samples)
        field.table.grad = torch.zeros_like(field.table)
        networks = [*field.density_weights, *field.color_weights]
        corrections = self.module.corrections.rates(config)
        self._optimizer = FusedAdam(
            [
                {"params": [field.table], "sparse": True, "rate": 1.0},
                {"params": networks, "sparse": False, "rate": 1.0},
                *({"params": [parameter], "sparse": False, "rate": rate} for parameter, rate in corrections),
            ],
            lr=config.lr,
            betas=(0.9, 0.99),  # as in instant-ngp: its tables see few gradients each
            eps=1e-15,
            backend=config.backend,
        )
        self._early_decay = EARLY_DECAY if split.has_alpha else LATE_DECAY
        self._batches = PixelBatches(
            split, config.background, near_object=config.tight_box, device=self.module.grid.aabb.device
        )
        self.groups: LayerGroups = {
            "table": [field.table],
            "density": list(field.density_weights),
            "color": list(field.color_weights),
            **{name: [parameter] for name, parameter in self.module.corrections.named_parameters()},
        }
        self.grad_norms = torch.zeros(len(self.groups), device=self.module.grid.aabb.device)
        self.reserve(image_bytes)
        return self._optimizer

    def reserve(self, image_bytes: int) -> None:
        """Work out the step's length from the box; a chunk of rays takes no more memory than training does."""
        aabb = self.module.grid.aabb
        self._step_size = float(torch.linalg.vector_norm(aabb[1] - aabb[0])) / self.config.march_steps

    def self_test(self) -> MatmulFinding:
        """Of both networks, at a step's samples."""
        field, config = self.module.field, self.config
        networks = [
            [layers[0].shape[1], *(len(weight) for weight in layers)]
            for layers in (field.density_weights, field.color_weights)
        ]
        device = self.module.grid.aabb.device
        return check_mlp_gradients(networks, rows=config.batch_samples, device=device, backend=config.backend)

    def train_step(self, step: int, lr: float, *, measure: bool = False) -> Step:
        """One step of Adam on as many rays as give the samples wanted."""
        config, module = self.config, self.module
        field = module.field
        seed = step_seed(config.seed, step)
        if step % UPDATE_EVERY == 0:
            self._update_grid(step, seed)
        batch = self._batches.draw(module.rays, seed)
        rays_o, rays_d = module.corrections.rays(batch.rays_o, batch.rays_d, batch.views)
        sampler = self._sampler(step)
        room = self._room() if self._bounded else None
        samples, marched = visible_samples(
            field, module.grid, sampler, rays_o.detach(), rays_d.detach(), stratified=True, seed=seed, max_samples=room
        )
        if rays_d.requires_grad:
            samples = samples.on_rays(rays_o, rays_d)
        composited = render_samples(field, sampler, samples, rays_d, batch.background)
        rgb = module.corrections.expose(composited.rgb, composited.opacity, batch.background, batch.views)
        loss = PHOTOMETRIC[config.loss](rgb, batch.truth) + module.corrections.penalty()
        if loss.requires_grad:  # else no ray has met anything
            loss.backward()
            if measure:  # before the step, which clears the gradients
                self.grad_norms = gradient_norms(self.groups)
            for group in self._optimizer.param_groups:
                group["lr"] = lr * group["rate"]
            self._optimizer.step()
        update_average(module.average, field, config.ema_decay, step)
        count = len(samples.t_starts)
        self._marched_per_ray = marched / module.rays if marched != room else None
        # No more than twofold: the first counts are those of a full grid.
        most_marched = MOST_MARCHED * config.batch_samples
        wanted = module.rays * min(2.0, config.batch_samples / max(count, 1), most_marched / max(marched, 1))
        module.rays = max(FEWEST_RAYS, min(MOST_RAYS, int(wanted)))
        with torch.no_grad():
            error = F.mse_loss(rgb, batch.truth)
        signs = batch_signs(composited.opacity.detach(), batch.truth, batch.background, batch.alpha)
        norm = self.grad_norms.norm() if measure else None
        return Step(loss.detach(), error, signs, norm, len(batch.truth), count)

    @property
    def box(self) -> torch.Tensor:
        """The box of the coarsest cascade."""
        return self.module.grid.outer_box

    @torch.no_grad()
    def density(self, positions: torch.Tensor) -> torch.Tensor:
        """Densities by the averaged weights; 0 in empty cells, where no ray asks and anything may have been learnt."""
        densities = positions.new_zeros(len(positions))
        asked = self.module.grid.occupied(positions).nonzero()[:, 0]
        densities[asked] = self.module.average.density(positions[asked])
        return densities

    @torch.no_grad()
    def colors(self, positions: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Colours by the averaged weights."""
        field, each = self.module.average, torch.arange(len(positions), device=positions.device)
        return field.rgbs(field.geometry(positions), directions, each)

    def render(self, rays_o: torch.Tensor, rays_d: torch.Tensor, background: torch.Tensor) -> RenderedPixels:
        """Pixels by the averaged weights."""
        module = self.module
        return render_image(
            module.average,
            module.grid,
            self._sampler(None),
            rays_o,
            rays_d,
            background=background,
            rays_per_chunk=RENDER_RAYS,
        )

    def _sampler(self, step: int | None) -> GridSampler:
        """Steps of a length of their own at the start, where a wall of samples would say little more than a few."""
        length = self._step_size
        if step is not None:
            length *= max(1.0, self.config.first_step * 0.5 ** (step / HALVE_STEP_EVERY))
        cone_angle = CONE_ANGLE if self.module.grid.cascades > 1 else 0.0
        return GridSampler(length, self._near, self._far, cone_angle=cone_angle, backend=self.config.backend)

    def _room(self) -> int:
        """Room for a step's marched samples."""
        most = MOST_MARCHED * self.config.batch_samples
        if self._marched_per_ray is None:
            return most
        expected = MARCH_ROOM * self._marched_per_ray * self.module.rays
        return min(most, math.ceil(expected / MARCH_ROUND) * MARCH_ROUND)

    def _update_grid(self, step: int, seed: int) -> None:
        grid, update = self.module.grid, step // UPDATE_EVERY
        grid.update(
            self.module.field.density,
            step=update,
            seed=seed,
            threshold=OPAQUE_STEP / self._step_size,
            num_cells=UPDATE_CELLS * grid.cascades,
            decay=self._early_decay if update < grid.warmup_updates else LATE_DECAY,
        )
