"""The model of instant-ngp: a hash grid and small fused networks, sampled through an occupancy grid (preset fast)."""

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


class HashGridModel(Model):
    """Müller et al. 2022, section 5.4 and appendix E; see :class:`nerf_metal.models.base.Model`.

    Attributes:
        field: what learns.
        grid: the occupancy grid.
        corrections: of the training images.
        batch_rays: number of rays of the next batch. It follows the samples of the steps before, and is saved.
    """

    Config = HashGridConfig
    config: HashGridConfig
    clips_gradients = False  # gradients of the table are scattered: no two steps touch the same entries

    def __init__(self, config: HashGridConfig, space: Space) -> None:
        """Make the field and a full grid; the weights come from torch's random state."""
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
        self._step_size: float | None = None  # of the box, once it is known
        self._marched_per_ray: float | None = None  # of the step before, once it is known
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
        """The box of the coarsest cascade."""
        return self.grid.outer_box

    def fit_to(self, split: Split) -> None:
        """Find the box that the object fills, and where in it nothing can be: rays are sampled nowhere else from the
        first step on. Without alpha there is no hull, and the grid finds empty space by itself."""
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
        """Compute the loss of the visible samples, with gradients, and set the rays of the next batch."""
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
        """Return the densities; 0 in empty cells, where no ray asks and anything may have been learnt."""
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
        """Return batches of pixels near the object, where alpha says where it is."""
        self._early_decay = EARLY_DECAY if split.has_alpha else LATE_DECAY
        return PixelBatches(split, background, near_object=self.config.tight_box, seed=seed, device=device)

    def optimizer(self, lr: float) -> FusedAdam:
        """Return Adam in one pass over memory, and make the table's gradient once for all steps."""
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
            betas=(0.9, 0.99),  # as in instant-ngp: its tables see few gradients each
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
        """Check that training fits. A rendered chunk of rays takes no more than a step of the training."""
        if training:
            memory.keep_freed_memory()
            memory.check_hash_grid(max_memory, held_bytes, self.field, self.config.batch_samples)

    def self_test(self) -> MatmulFinding:
        """Check the gradients of both networks at a step's samples."""
        networks = [
            [layers[0].shape[1], *(len(weight) for weight in layers)]
            for layers in (self.field.density_network.weights, self.field.color_network.weights)
        ]
        return check_mlp_gradients(
            networks, rows=self.config.batch_samples, device=self.grid.aabb.device, backend=self.config.backend
        )

    def bounded(self) -> bool:
        """Whether the room for samples is bounded beforehand: reading their number back waits for a GPU."""
        return self.grid.aabb.device.type != "cpu"

    def _forget_box(self, *_: object) -> None:
        self._step_size = None

    def _sampler(self, step: int | None) -> GridSampler:
        """Steps of a length of their own at the start, where a wall of samples would say little more than a few."""
        length = self._length()
        if step is not None:
            length *= max(1.0, self.config.first_step * 0.5 ** (step / HALVE_STEP_EVERY))
        cone_angle = CONE_ANGLE if self.grid.cascades > 1 else 0.0
        return GridSampler(length, self.near, self.far, cone_angle=cone_angle, backend=self.config.backend)

    def _length(self) -> float:
        """Length of a sample, world units; read back from the box once."""
        if self._step_size is None:
            aabb = self.grid.aabb
            self._step_size = float(torch.linalg.vector_norm(aabb[1] - aabb[0])) / self.config.march_steps
        return self._step_size

    def _room(self) -> int:
        """Room for a step's marched samples."""
        most = MOST_MARCHED * self.config.batch_samples
        if self._marched_per_ray is None:
            return most
        expected = MARCH_ROOM * self._marched_per_ray * self.batch_rays
        return min(most, math.ceil(expected / MARCH_ROUND) * MARCH_ROUND)

    def _follow(self, count: int, marched: int, *, bounded: bool) -> None:
        """Set the rays of the next batch from the samples of this one."""
        self._marched_per_ray = None if bounded else marched / self.batch_rays
        # No more than twofold: the first counts are those of a full grid.
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
