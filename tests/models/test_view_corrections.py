"""What is learnt of each training image: golden values, gradients, and that it finds what was wrong."""

import dataclasses

import pytest
import torch

from nerf_metal.data.scene import Scene, Split
from nerf_metal.models import build_method, view_corrections
from nerf_metal.models.view_corrections import ViewCorrections, rotate
from nerf_metal.train.options import TrainConfig, preset_config
from tests.conftest import cube_split


def make(views: int, **options: object) -> ViewCorrections:
    return ViewCorrections(dataclasses.replace(preset_config("fast"), **options), views)


def test_a_quarter_turn_by_hand():
    turned = rotate(torch.tensor([[0.0, 0.0, torch.pi / 2]]), torch.tensor([[1.0, 0.0, 0.0]]))
    torch.testing.assert_close(turned, torch.tensor([[0.0, 1.0, 0.0]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-8, 1e-3, 0.0999, 0.1001, 1.0, 3.0])
def test_turns_are_exponentials(size):
    """On both sides of the series' border; of skew matrices (Rodrigues)."""
    axis = torch.nn.functional.normalize(torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), dim=-1) * size
    x, y, z = axis[0].tolist()
    skew = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    vectors = torch.eye(3, dtype=torch.float64)
    turned = rotate(axis.expand(3, 3), vectors)
    # the series leave out terms of a^6 / 5040 and less
    torch.testing.assert_close(turned.T, torch.linalg.matrix_exp(skew), rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [0.0, 0.05, 0.5])
def test_gradients_of_turns(size):
    turn = (torch.tensor([[0.6, -0.3, 0.7]], dtype=torch.float64) * size).requires_grad_()
    vectors = torch.tensor([[0.2, 0.9, -0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotate, (turn, vectors))


def test_what_is_off_changes_nothing():
    corrections = make(3)
    rays_o, rays_d, views = torch.rand(5, 3), torch.rand(5, 3), torch.tensor([0, 1, 2, 1, 0])
    assert corrections.rays(rays_o, rays_d, views) == (rays_o, rays_d)
    assert corrections.expose(rays_o, rays_d[:, 0], rays_d, views) is rays_o
    assert corrections.penalty() == 0.0 and not list(corrections.parameters())


def test_gains_by_hand():
    """They act on what is before the background, and only as far as they differ between the images."""
    corrections = make(2, appearance="exposure")
    rgb, opacity, white = torch.tensor([[0.6, 0.6, 0.6]]), torch.tensor([0.5]), torch.ones(1, 3)
    with torch.no_grad():
        corrections.gains.copy_(torch.log(torch.tensor([[4.0, 1.0, 1.0], [1.0, 1.0, 1.0]])) + 0.3)
    out = corrections.expose(rgb, opacity, white, torch.tensor([0]))
    # 0.1 of 0.6 is before the background; gains of 4 and 1 are 2 and a half of their mean
    torch.testing.assert_close(out, torch.tensor([[0.7, 0.6, 0.6]]))
    out = corrections.expose(rgb, opacity, white, torch.tensor([1]))
    torch.testing.assert_close(out, torch.tensor([[0.55, 0.6, 0.6]]))


def fitted(config: TrainConfig, scene: Scene, steps: int):
    """A method after so many steps at the run's full rate."""
    model = build_method(config, scene.aabb, scene.near, scene.far, len(scene.splits["train"]))
    model.measure(scene.splits["train"])
    model.prepare(scene.splits["train"], 0)
    for step in range(steps):
        model.train_step(step, config.lr)
    return model


def small(field: str, **options: object) -> TrainConfig:
    """Fields that learn the cube in seconds."""
    sizes: dict[str, object] = {"device": "cpu", "lr": 1e-2, **options}
    if field == "hashgrid":
        sizes |= {"log2_table_size": 12, "finest_resolution": 64, "grid_resolution": 32, "hidden_width": 16}
        sizes |= {"batch_samples": 2048, "march_steps": 100, "levels": 4}
        return dataclasses.replace(preset_config("fast"), **sizes)
    sizes |= {"hidden_width": 32, "depth": 2, "position_levels": 4, "batch_rays": 128, "num_samples": 16}
    return dataclasses.replace(preset_config("small"), **sizes)


def with_train(scene: Scene, split: Split) -> Scene:
    return dataclasses.replace(scene, splits={**scene.splits, "train": split})


@pytest.mark.parametrize(
    ("field", "steps"), [("hashgrid", 150), pytest.param("frequency", 120, marks=pytest.mark.slow)]
)
def test_it_finds_how_images_were_exposed(cube_scene, field, steps, monkeypatch):
    """Every other image is half as bright: their gains come out a factor of two apart."""
    monkeypatch.setattr(view_corrections, "EXPOSURE_LR", 2e-2)  # as far in these steps as a run gets in thousands
    split = cube_scene.splits["train"]
    images = split.images.clone()
    images[::2, ..., :3] //= 2
    scene = with_train(cube_scene, dataclasses.replace(split, images=images))
    model = fitted(small(field, appearance="exposure"), scene, steps)
    gains = dict(model.module.named_parameters())["corrections.gains"].detach()
    # the rest the field explains by the direction that each image looks in
    assert 1.3 < (gains[1::2].mean() - gains[::2].mean()).exp() < 2.5


@pytest.mark.parametrize(
    ("field", "steps"), [("hashgrid", 200), pytest.param("frequency", 150, marks=pytest.mark.slow)]
)
def test_it_finds_how_cameras_stood(field, steps):
    """Cameras that are turned by three degrees, each another way, see the cube where it is again."""
    split = cube_split("train", 12, 40, 0.0)  # a pixel is a degree
    generator = torch.Generator().manual_seed(3)
    wrong = torch.nn.functional.normalize(torch.randn(len(split), 3, generator=generator), dim=-1) * 0.05
    turns = [rotate(turn.expand(3, 3), pose[:3, :3].T).T for turn, pose in zip(wrong, split.c2w, strict=True)]
    c2w = split.c2w.clone()
    c2w[:, :3, :3] = torch.stack(turns)
    splits = {"train": dataclasses.replace(split, c2w=c2w)}
    scene = Scene("cube", "test", splits, torch.tensor([[-1.5] * 3, [1.5] * 3]), 2.0, 6.0)
    model = fitted(small(field, refine_poses=True, pose_lr=2e-3, tight_box=False), scene, steps)
    poses = dict(model.module.named_parameters())["corrections.poses"].detach()

    def seen(turn: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """By how much the middle of the cube, 4.2 away, moves in the pictures; what all do together is the scene's."""
        ahead = -split.c2w[:, :3, 2]
        moved = torch.linalg.cross(turn, ahead) + (shift - (shift * ahead).sum(-1, keepdim=True) * ahead) / 4.2
        return (moved - moved.mean(0)).square().sum(-1).mean().sqrt()

    assert seen(wrong + poses[:, :3], poses[:, 3:]) < 0.5 * seen(wrong, torch.zeros_like(wrong))


def test_a_checkpoint_has_them(cube_scene, tiny_config, tmp_path, plain_plots):
    from nerf_metal.train.loading import load_model
    from nerf_metal.train.loop import train
    from nerf_metal.train.run_folder import RunFolder

    config = dataclasses.replace(tiny_config, refine_poses=True, appearance="exposure", watchdog="warn")
    folder = RunFolder.create(config, "cube")
    trained = train(config, cube_scene, folder, torch.device("cpu")).model
    loaded, _ = load_model(folder)
    for name, weight in trained.module.state_dict().items():
        assert torch.equal(weight, loaded.module.state_dict()[name]), name
    assert loaded.module.state_dict()["corrections.poses"].any()
