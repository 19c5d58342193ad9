"""The preset fast: its step against float64 references; it learns, repeats itself, resumes, finds empty space."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nerf_metal import kernels
from nerf_metal.models import build_method, hash_grid
from nerf_metal.models.hash_grid import rendering as grid_render
from nerf_metal.models.hash_grid.field import Geometry, HashField
from nerf_metal.models.hash_grid.rendering import GridSampler, Samples, render_image, render_samples, visible_samples
from nerf_metal.models.losses import PHOTOMETRIC
from nerf_metal.nn.occupancy_grid import OccupancyGrid
from nerf_metal.reference import unpack_bits
from nerf_metal.selftest.tolerances import TRAINING_STEP
from nerf_metal.train.loop import train
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.run_folder import RunFolder

CPU = torch.device("cpu")
BOX = torch.tensor([[-1.0, -0.8, -1.2], [1.0, 0.8, 1.2]])


@pytest.fixture
def fast_config(tmp_path) -> TrainConfig:
    """A run of 40 steps that takes a second."""
    return TrainConfig(
        out=str(tmp_path / "run"),
        steps=40,
        max_seconds=None,
        levels=4,
        log2_table_size=12,
        base_resolution=4,
        finest_resolution=32,
        hidden_width=16,
        grid_resolution=32,
        march_steps=64,
        batch_samples=2048,
        lr_decay_steps=100,
        warmup_steps=5,
        eval_views=2,
        steps_per_epoch=20,
        device="cpu",
        deterministic=True,
        quiet=True,
    )


def run(config: TrainConfig, scene, **options):
    folder = RunFolder.create(config, scene.name)
    return train(config, scene, folder, CPU, **options), folder


def prepared(config: TrainConfig, scene) -> hash_grid.HashGridModel:
    """A method that is about to make its first step."""
    model = build_method(config, scene.aabb, scene.near, scene.far)
    model.measure(scene.splits["train"])
    model.prepare(scene.splits["train"], 0)
    return model


def state(result) -> dict[str, torch.Tensor]:
    return result.model.module.state_dict()


def small_field(backend: str) -> HashField:
    """Two dense levels and two hashed ones, with a table that is not all but flat."""
    torch.manual_seed(3)
    field = HashField(
        BOX,
        levels=4,
        features=2,
        log2_table_size=9,
        base_resolution=4,
        finest_resolution=16,
        width=32,
        backend=backend,
    )
    with torch.no_grad():
        field.table.uniform_(-1.0, 1.0)
        field.density_weights[-1].mul_(6.0)  # densities from next to nothing to opaque
    return field


def step_gradients(
    field: HashField, backend: str, max_samples: int | None = None
) -> tuple[Samples, dict[str, torch.Tensor]]:
    """One training step without its optimizer: march, encode, networks, composite, loss, and all the way back."""
    dtype = field.table.dtype
    grid = OccupancyGrid(BOX, 16, backend="host")
    middle = torch.zeros(16, 16, 16, dtype=torch.bool)
    middle[3:13, 4:12, 2:14] = True
    grid.mark(middle)
    grid.aabb = grid.aabb.to(dtype)
    generator = torch.Generator().manual_seed(0)
    rays_o = torch.randn(40, 3, generator=generator) * 0.2 + torch.tensor([0.0, 0.0, 3.0])
    targets = (torch.rand(40, 3, generator=generator) - 0.5) * 1.6
    rays_d = torch.nn.functional.normalize(targets - rays_o, dim=-1)
    background, truth = (torch.rand(40, 3, generator=generator) for _ in range(2))
    rays_o, rays_d, background, truth = (x.to(dtype) for x in (rays_o, rays_d, background, truth))
    sampler = GridSampler(0.05, 0.0, 10.0, early_stop_eps=0.3, backend=backend)
    samples, marched = visible_samples(
        field, grid, sampler, rays_o, rays_d, stratified=True, seed=5, max_samples=max_samples
    )
    assert 0 < len(samples.t_starts) < marched  # some are hidden
    rgb = render_samples(field, sampler, samples, rays_d, background).rgb
    PHOTOMETRIC["huber"](rgb, truth).backward()
    return samples, {name: p.grad for name, p in field.named_parameters()}


@pytest.mark.host_kernels
@pytest.mark.parametrize("in_place", [False, True])
def test_gradients_of_a_training_step_are_the_references(in_place: bool) -> None:
    """Kernels in float32 against pure torch in float64, from the march to the weights."""
    field = small_field("host")
    exact = copy.deepcopy(field).double()
    exact.backend = "torch"
    if in_place:  # as the trainer does
        field.table.grad = torch.zeros_like(field.table)
    samples, got = step_gradients(field, "host")
    expected_samples, expected = step_gradients(exact, "torch")
    assert torch.equal(samples.packed_info.long(), expected_samples.packed_info.long())
    for name, gradient in expected.items():
        scale = gradient.abs().max()
        assert scale > 0, name
        assert (got[name] - gradient).abs().max() < TRAINING_STEP * scale, name


def test_what_is_known_is_not_evaluated_again(monkeypatch) -> None:
    """The visible samples' densities come from the march: a step encodes each sample once, and not those hidden far
    behind a surface."""
    encoded, names = [], []
    launch = kernels.launch

    def counting(name, buffers, params, *args, **options):
        names.append(name)
        encoded.append(params["n_points"] if name == "hashgrid_forward_f32" else 0)
        launch(name, buffers, params, *args, **options)

    monkeypatch.setattr(kernels, "launch", counting)
    monkeypatch.setattr(grid_render, "WINDOWS", (0, 4, 9, 1000))
    samples, _ = step_gradients(small_field("host"), "host")
    marched = 721  # counted by the kernel, before any density is known
    assert len(samples.t_starts) <= sum(encoded) < marched
    assert names.count("hashgrid_backward_levels_f32") == 1


@pytest.mark.parametrize("windows", [(0, 1000), (0, 1, 2, 3, 1000), (0, 7, 20, 1000)])
def test_windows_change_no_sample(monkeypatch, windows) -> None:
    """How many samples of a ray are looked at together decides nothing."""
    expected, gradients = step_gradients(small_field("host"), "host")
    monkeypatch.setattr(grid_render, "WINDOWS", windows)
    got, again = step_gradients(small_field("host"), "host")
    assert all(torch.equal(a, b) for a, b in zip(got[:-1], expected[:-1], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(got.geometry, expected.geometry, strict=True))
    assert all(torch.equal(gradient, again[name]) for name, gradient in gradients.items())


class _Reads(TorchDispatchMode):
    """Notes what makes a GPU's caller wait, but for the tensors that lie on the CPU in any case."""

    def __init__(self, on_cpu: list[torch.Tensor]) -> None:
        super().__init__()
        self.names: list[str] = []
        self._on_cpu = {id(tensor) for tensor in on_cpu}

    def note(self, name: str, tensor: torch.Tensor) -> None:
        if id(tensor) not in self._on_cpu:
            self.names.append(name)

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        masks = [x for x in arguments[1] if x is not None] if name in ("index", "index_put_", "index_put") else []
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "repeat_interleave", "_unique2", "equal") or any(
            mask.dtype == torch.bool for mask in masks
        ):
            self.note(name, arguments[0])
        return function(*arguments, **(options or {}))


def test_a_bounded_step_reads_back_once(cube_scene, fast_config, monkeypatch) -> None:
    """As on a GPU: the samples are marched into a buffer, and nothing is waited for but the number of visible ones."""
    model = prepared(fast_config, cube_scene)
    model._bounded = True
    batches = [model._batches.draw(rays, 7) for rays in (400, 500, 600)]  # drawn on the CPU whatever trains
    monkeypatch.setattr(model._batches, "draw", lambda count, seed: batches.pop())
    model.train_step(0, 1e-3)  # asks the grid once whether it is marked
    steps = [state["step"] for state in model._optimizer.state.values()]
    for step in (8, 16):  # with an average, and with an update of the grid
        with _Reads(steps) as reads, monkeypatch.context() as patch:
            for name in ("tolist", "cpu", "numpy"):
                original = getattr(torch.Tensor, name)

                def reading(self, *arguments, original=original, name=name, reads=reads):
                    reads.note(name, self)
                    return original(self, *arguments)

                patch.setattr(torch.Tensor, name, reading)
            model.train_step(step, 1e-3)
        assert reads.names == ["tolist"]


def test_a_bounded_buffer_changes_no_sample() -> None:
    """All in one window of a buffer that is not filled, as on a GPU: the same visible samples, and their number."""
    expected, gradients = step_gradients(small_field("host"), "host")
    got, again = step_gradients(small_field("host"), "host", max_samples=1000)
    assert all(torch.equal(a, b) for a, b in zip(got[:-1], expected[:-1], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(got.geometry, expected.geometry, strict=True))
    assert all(torch.equal(gradient, again[name]) for name, gradient in gradients.items())


def test_the_buffer_follows_what_was_marched(cube_scene, fast_config) -> None:
    """A quarter more than the rays of the step before would have needed; all there may be where that was cut."""
    model = prepared(fast_config, cube_scene)
    model._bounded = True
    most = hash_grid.MOST_MARCHED * fast_config.batch_samples
    assert model._room() == most
    model._marched_per_ray, model.module.rays = 10.0, 500
    assert model._room() == min(most, 2**14)
    model.config = dataclasses.replace(fast_config, batch_samples=2**18)
    model.module.rays = 10_000
    assert model._room() == 2**17  # 125 000 and what is missing to whole 2^14
    model.train_step(0, 1e-3)
    assert model._marched_per_ray is not None


def test_hidden_samples_hold_the_rays_back(cube_scene, fast_config, monkeypatch) -> None:
    """However few samples are visible, no step marches many more than it wants."""
    model = prepared(fast_config, cube_scene)
    found = []

    def hidden(*arguments, **options):
        samples, _ = visible_samples(*arguments, **options)
        found.append(len(samples.t_starts))
        return samples, 8 * hash_grid.MOST_MARCHED * fast_config.batch_samples

    monkeypatch.setattr(hash_grid, "visible_samples", hidden)
    before = model.module.rays
    model.train_step(0, 1e-3)
    assert found[0] < fast_config.batch_samples and model.module.rays == before // 8


def test_early_stop_changes_no_picture() -> None:
    """Hidden samples left out change a pixel by less than what is left of its light."""
    field, grid = small_field("host"), OccupancyGrid(BOX, 16)
    rays_o = torch.tensor([0.0, 0.0, 3.0]).expand(50, 3).contiguous()
    rays_d = torch.nn.functional.normalize(torch.rand(50, 3) - torch.tensor([0.5, 0.5, 3.0]), dim=-1)
    pictures = [
        render_image(
            field, grid, GridSampler(0.02, 0.0, 10.0, eps), rays_o, rays_d, background=torch.ones(3), rays_per_chunk=17
        ).rgb
        for eps in (0.0, 0.3)
    ]
    assert (pictures[0] - pictures[1]).abs().max() <= 0.3
    assert not torch.equal(*pictures)  # some were left out


def test_rays_that_meet_nothing_are_background() -> None:
    field, grid = small_field("host"), OccupancyGrid(BOX, 16)
    grid.mark(torch.zeros(16, 16, 16, dtype=torch.bool))
    rays_d = torch.tensor([[0.0, 0.0, -1.0]]).expand(5, 3).contiguous()
    color = torch.tensor([0.1, 0.2, 0.3])
    sampler = GridSampler(0.1, 0.0, 10.0)
    picture = render_image(field, grid, sampler, -3.0 * rays_d, rays_d, background=color, rays_per_chunk=2)
    assert torch.equal(picture.rgb, color.expand(5, 3))
    assert not picture.opacity.any() and not picture.depth.any()


def test_it_learns(cube_scene, fast_config) -> None:
    """150 steps beat the blank picture by far, in the box and the cells of the visual hull."""
    result, _ = run(dataclasses.replace(fast_config, steps=150, lr_decay_steps=None), cube_scene)
    assert result.evaluation.psnr > result.evaluation.blank_psnr + 4
    grid = result.model.module.grid
    allowed = float(unpack_bits(grid.allowed).float().mean())
    assert grid.occupied_fraction() <= allowed < 1.0  # the hull is not the whole box


def test_it_learns_without_alpha(cube_scene, fast_config) -> None:
    """Opaque pictures have no hull: the box stays, and every cell is allowed."""
    splits = {}
    for name, split in cube_scene.splits.items():
        images = split.images.clone()
        images[..., :3] = (images[..., :3].float() * (images[..., 3:] / 255.0) + 255.0 - images[..., 3:]).to(
            torch.uint8
        )
        images[..., 3] = 255
        splits[name] = dataclasses.replace(split, images=images, has_alpha=False)
    scene = dataclasses.replace(cube_scene, splits=splits)
    result, _ = run(dataclasses.replace(fast_config, steps=200, lr_decay_steps=None, background="white"), scene)
    assert result.evaluation.psnr > result.evaluation.blank_psnr + 2
    module = result.model.module
    assert torch.equal(module.field.aabb, scene.aabb)
    assert bool((module.grid.allowed == -1).all())


def test_equal_seeds_give_equal_checkpoints(cube_scene, fast_config, tmp_path) -> None:
    """Bit for bit, whatever the number of threads; another seed gives another run."""
    one, folder = run(fast_config, cube_scene)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        _, again = run(dataclasses.replace(fast_config, out=str(tmp_path / "again")), cube_scene)
    finally:
        torch.set_num_threads(threads)
    for path in folder.checkpoints.glob("*.safetensors"):
        assert path.read_bytes() == (again.checkpoints / path.name).read_bytes(), path.name
    other, _ = run(dataclasses.replace(fast_config, out=str(tmp_path / "other"), seed=1), cube_scene)
    assert not torch.equal(state(one)["field.table"], state(other)["field.table"])


def test_resumed_equals_unbroken(cube_scene, fast_config, tmp_path) -> None:
    """Table, average, grid, moments and the number of rays: half a run, resumed, ends with the bits of a whole one."""
    whole, _ = run(fast_config, cube_scene)
    half = dataclasses.replace(fast_config, steps=20, out=str(tmp_path / "half"))
    _, folder = run(half, cube_scene)
    rest = train(dataclasses.replace(half, steps=40), cube_scene, folder, CPU, resume=True)
    assert whole.model.module.rays == rest.model.module.rays
    for name, tensor in state(whole).items():
        assert torch.equal(tensor, state(rest)[name]), name


def test_rays_follow_the_samples(cube_scene, fast_config) -> None:
    """The next step has as many rays as would have given the samples wanted, but no more than twice as many."""
    model = prepared(fast_config, cube_scene)
    for step in range(6):
        before = model.module.rays
        done = model.train_step(step, 1e-3)
        assert done.rays == before
        assert model.module.rays == max(64, int(before * min(2.0, fast_config.batch_samples / done.samples)))


def test_known_geometry_has_gradients_of_its_own() -> None:
    """What was evaluated without gradients and handed in again trains like what was not."""
    field = small_field("host")
    positions = (torch.rand(50, 3) - 0.5) * 1.5
    with torch.no_grad():
        known = field.geometry(positions)
    for given in (None, known):
        geometry = field.geometry(positions, given)
        assert isinstance(geometry, Geometry)
        (field.sigmas(geometry).sum() * 0.1).backward()
    table = field.table.grad.clone()
    field.zero_grad()
    (field.density(positions).sum() * 0.2).backward()
    torch.testing.assert_close(table, field.table.grad, rtol=1e-5, atol=1e-7)


def test_build_is_seeded(fast_config) -> None:
    """The options' seed alone decides the first weights."""
    torch.manual_seed(9)
    one = build_method(fast_config, BOX, 2.0, 6.0).module.state_dict()
    two = build_method(fast_config, BOX, 2.0, 6.0).module.state_dict()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
