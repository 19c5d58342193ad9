"""The model of instant-ngp: a hash grid with small fused networks, sampled through an occupancy grid (preset fast)."""

from __future__ import annotations

import math

import torch

from nerf_metal.data.batches import PixelBatches, RayBatch
from nerf_metal.data.hull import hull_box, hull_cells, visual_hull
from nerf_metal.data.scene import Split
from nerf_metal.models import memory
from nerf_metal.models.base import LayerGroups, Model, Space, StepLoss
from nerf_metal.models.hash_grid.field import HashField
from nerf_metal.models.hash_grid.options import HashGridConfig
from nerf_metal.models.hash_grid.rendering import GridSampler, render_image, render_samples, visible_samples
from nerf_metal.models.losses import PHOTOMETRIC
from nerf_metal.models.matmul_check import MatmulFinding, check_mlp_gradients
from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.models.view_corrections import ViewCorrections
from nerf_metal.nn.occupancy_grid import OccupancyGrid
from nerf_metal.nn.optimizers import FusedAdam

UPDATE_EVERY = 16
"""Number of steps between updates of the occupancy grid, as in instant-ngp."""
UPDATE_CELLS = 2**17
"""Number of cells that an update evaluates: a sixteenth of 128^3, which is as many as the samples of two steps."""
EARLY_DECAY, LATE_DECAY = 0.7, 0.95
"""Factor by which an update lowers the density of a cell, at the start and later. With 0.95, the value of instant-ngp,
empty space counts as occupied for hundreds of steps. At the start all cells are evaluated often, and a smaller factor
is as safe. It is not safe without alpha, where the scene starts as a fog: a thin part of the scene would count as empty
before it is evaluated again."""
OPAQUE_STEP = 0.01
"""Opacity of one sample from which a cell counts as occupied: the least optical thickness of instant-ngp."""
FEWEST_RAYS = 64
"""Least number of rays of a step, whatever the number of their samples is."""
FIRST_RAYS = 1024
"""Number of rays of the first step. Later steps have as many as give the wanted number of samples."""
MOST_RAYS = 2**17
"""Largest number of rays of a step. If there is almost nothing to sample, more rays would only cross empty space."""
RENDER_RAYS = 8192
"""Number of rays of a rendered chunk. They have as many samples as a few steps."""
MOST_MARCHED = 4
"""Largest number of marched samples for each wanted one. The number of rays is lowered if more samples are hidden. Two
or three are usual."""
MARCH_ROOM, MARCH_ROUND = 1.25, 2**14
"""Factor on the number of marched samples that is expected from the step before, and the multiple to which it is
rounded. They set the memory for samples on a GPU, which does not wait for the true number. The mean over thousands of
rays changes by less than the factor from step to step. The rounding lets the allocator use its memory again."""
HALVE_STEP_EVERY = 50
"""Number of steps in which the length of the samples at the start is halved. The grid has found most of the empty space
by then."""
CONE_ANGLE = 1.0 / 256.0
"""Growth of the length of samples with their distance if there are several cascades: about that of a pixel, as in
instant-ngp."""
HULL_RESOLUTION = 128
"""Number of voxels of the visual hull along an axis of the box. More of them take seconds and exclude little more."""


class HashGridModel(Model):
    """The model of instant-ngp (Müller et al. 2022, section 5.4 and appendix E).

    Attributes:
        field: field that learns.
        grid: occupancy grid.
        corrections: corrections of the poses and exposures of the training images.
        batch_rays: number of rays of the next batch. It follows from the samples of the earlier steps, and a checkpoint
            holds it.

    Args:
        config: options of the model.
        space: facts about the scene.
    """

    Config = HashGridConfig
    config: HashGridConfig
    clips_gradients = False  # each step has gradients for other entries of the table

    def __init__(self, config: HashGridConfig, space: Space) -> None:
        """Make the field and a full grid. The initial weights are drawn from torch's random state."""
        super().__init__(config, space)
        cascades = config.cascades or space.cascades
        self.field = HashField(
            space.aabb,
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
        self.grid = OccupancyGrid(space.aabb, config.grid_resolution, cascades, backend=config.backend)
        self.corrections = ViewCorrections(config, space.views)
        self.batch_rays = FIRST_RAYS
        self._step_size: float | None = None  # length of a sample; None until it is computed from the box
        self._marched_per_ray: float | None = None  # mean of the step before; None if it is not known
        self._early_decay = LATE_DECAY
        self.register_load_state_dict_post_hook(HashGridModel._forget_box)

    def get_extra_state(self) -> torch.Tensor:
        """Return the number of rays, for a checkpoint."""
        return torch.tensor(self.batch_rays)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Take the number of rays from a checkpoint."""
        self.batch_rays = int(state)

    @property
    def box(self) -> torch.Tensor:
        """Box ``[2, 3]`` of the largest cascade, world units."""
        return self.grid.outer_box

    def fit_to(self, split: Split) -> None:
        """Set the box to the box of the object, and mark the cells outside of the visual hull as empty.

        So rays are sampled only inside the hull from the first step on. Images without alpha have no hull, and the
        grid finds the empty space during training.
        """
        if not (self.config.tight_box and split.has_alpha):
            return
        aabb = self.grid.aabb.clone()
        hull = visual_hull(split, aabb, min(HULL_RESOLUTION, self.grid.resolution))
        box = hull_box(hull, aabb)
        for part in (self.field, self.grid):
            part.aabb.copy_(box)
        self.grid.mark(hull_cells(hull, aabb, box, self.grid.resolution))
        self._forget_box()

    def loss(self, batch: RayBatch, step: int) -> StepLoss:
        """Compute the loss of a batch, with gradients, and set the number of rays of the next batch."""
        if step % UPDATE_EVERY == 0:
            self._update_grid(step, batch.seed)
        rays_o, rays_d = self.corrections.rays(batch.rays_o, batch.rays_d, batch.views)
        sampler = self._sampler(step)
        room = self._room() if self.bounded() else None
        samples, marched = visible_samples(
            self.field,
            self.grid,
            sampler,
            rays_o.detach(),
            rays_d.detach(),
            stratified=True,
            seed=batch.seed,
            max_samples=room,
        )
        if rays_d.requires_grad:
            samples = samples.on_rays(rays_o, rays_d)
        composited = render_samples(self.field, sampler, samples, rays_d, batch.background)
        rgb = self.corrections.expose(composited.rgb, composited.opacity, batch.background, batch.views)
        loss = PHOTOMETRIC[self.config.loss](rgb, batch.truth) + self.corrections.penalty()
        count = len(samples.t_starts)
        self._follow(count, marched, bounded=marched == room)
        return StepLoss(loss, rgb.detach(), composited.opacity.detach(), count)

    def render(self, rays_o: torch.Tensor, rays_d: torch.Tensor, background: torch.Tensor) -> RenderedPixels:
        """Render rays through the occupancy grid."""
        return render_image(
            self.field,
            self.grid,
            self._sampler(None),
            rays_o,
            rays_d,
            background=background,
            rays_per_chunk=RENDER_RAYS,
        )

    @torch.no_grad()
    def density(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the densities. They are 0 in empty cells, in which rays have no samples and the field is arbitrary."""
        densities = positions.new_zeros(len(positions))
        asked = self.grid.occupied(positions).nonzero()[:, 0]
        densities[asked] = self.field.density(positions[asked])
        return densities

    @torch.no_grad()
    def colors(self, positions: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Return the colours of the field."""
        each = torch.arange(len(positions), device=positions.device)
        return self.field.rgbs(self.field.geometry(positions), directions, each)

    def batches(self, split: Split, *, background: str, seed: int, device: torch.device) -> PixelBatches:
        """Return batches of pixels near the object, if the images have alpha."""
        self._early_decay = EARLY_DECAY if split.has_alpha else LATE_DECAY
        return PixelBatches(split, background, near_object=self.config.tight_box, seed=seed, device=device)

    def optimizer(self, lr: float) -> FusedAdam:
        """Return the fused Adam optimizer, and allocate the gradient of the table once for all steps."""
        table = self.field.encoding.table
        table.grad = torch.zeros_like(table)
        networks = [*self.field.density_network.weights, *self.field.color_network.weights]
        return FusedAdam(
            [
                {"params": [table], "sparse": True},
                {"params": networks, "sparse": False},
                *({**group, "sparse": False} for group in self.corrections.parameter_groups(lr)),
            ],
            lr=lr,
            betas=(0.9, 0.99),  # as in instant-ngp, because an entry of the table gets few gradients
            eps=1e-15,
            backend=self.config.backend,
        )

    def layer_groups(self) -> LayerGroups:
        """Return the table, both networks, and the corrections that learn."""
        return {
            "table": [self.field.encoding.table],
            "density": list(self.field.density_network.weights),
            "color": list(self.field.color_network.weights),
            **{name: [parameter] for name, parameter in self.corrections.learning().items()},
        }

    def limit_memory(self, max_memory: float, held_bytes: int, *, training: bool) -> None:
        """Check that training fits into memory. A rendered chunk of rays takes no more than a training step."""
        if training:
            memory.keep_freed_memory()
            memory.check_hash_grid(max_memory, held_bytes, self.field, self.config.batch_samples)

    def self_test(self) -> MatmulFinding:
        """Check the gradients of both networks with as many rows as a step has samples."""
        networks = [
            [layers[0].shape[1], *(len(weight) for weight in layers)]
            for layers in (self.field.density_network.weights, self.field.color_network.weights)
        ]
        return check_mlp_gradients(
            networks, rows=self.config.batch_samples, device=self.grid.aabb.device, backend=self.config.backend
        )

    def bounded(self) -> bool:
        """Return whether the number of samples is bounded in advance. Reading it back would wait for the GPU."""
        return self.grid.aabb.device.type != "cpu"

    def _forget_box(self, *_: object) -> None:
        self._step_size = None

    def _sampler(self, step: int | None) -> GridSampler:
        """Return the sampler of a step, or that of rendering for None. Samples are longer in the first steps."""
        length = self._length()
        if step is not None:
            length *= max(1.0, self.config.first_step * 0.5 ** (step / HALVE_STEP_EVERY))
        cone_angle = CONE_ANGLE if self.grid.cascades > 1 else 0.0
        return GridSampler(length, self.near, self.far, cone_angle=cone_angle, backend=self.config.backend)

    def _length(self) -> float:
        """Return the length of a sample, world units. The box is read back from the device only once."""
        if self._step_size is None:
            aabb = self.grid.aabb
            self._step_size = float(torch.linalg.vector_norm(aabb[1] - aabb[0])) / self.config.march_steps
        return self._step_size

    def _room(self) -> int:
        """Return the largest number of marched samples of a step, for which memory is allocated."""
        most = MOST_MARCHED * self.config.batch_samples
        if self._marched_per_ray is None:
            return most
        expected = MARCH_ROOM * self._marched_per_ray * self.batch_rays
        return min(most, math.ceil(expected / MARCH_ROUND) * MARCH_ROUND)

    def _follow(self, count: int, marched: int, *, bounded: bool) -> None:
        """Set the number of rays of the next batch from the numbers of samples of this one."""
        self._marched_per_ray = None if bounded else marched / self.batch_rays
        # At most twice as many, because the first numbers are those of a full grid.
        most_marched = MOST_MARCHED * self.config.batch_samples
        ratio = min(2.0, self.config.batch_samples / max(count, 1), most_marched / max(marched, 1))
        self.batch_rays = max(FEWEST_RAYS, min(MOST_RAYS, int(self.batch_rays * ratio)))

    def _update_grid(self, step: int, seed: int) -> None:
        grid, update = self.grid, step // UPDATE_EVERY
        grid.update(
            self.field.density,
            step=update,
            seed=seed,
            threshold=OPAQUE_STEP / self._length(),
            num_cells=UPDATE_CELLS * grid.cascades,
            decay=self._early_decay if update < grid.warmup_updates else LATE_DECAY,
        )
