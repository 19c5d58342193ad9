"""Clipping clips: the gradient of everything that learns, in one place."""

import dataclasses

import pytest
import torch

from nerf_metal.train.loop import train
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.run import TrainingRun
from nerf_metal.train.run_folder import RunFolder


def steps(config: TrainConfig, scene, monkeypatch) -> list[dict[str, float]]:
    """Norms of the gradients that the optimizer was given in each step: of the field, of poses and gains."""
    found, clip = [], TrainingRun.clip_gradients

    def clipped(run: TrainingRun, *, measure: bool) -> None:
        clip(run, measure=measure)
        norms = {name: torch.stack([p.grad.norm() for p in part]).norm() for name, part in run.groups.items()}
        found.append({name: float(norm) for name, norm in norms.items()})

    monkeypatch.setattr(TrainingRun, "clip_gradients", clipped)
    folder = RunFolder.create(config, "cube")
    train(config, scene, folder, torch.device("cpu"))
    return found


def total(norms: dict[str, float]) -> float:
    return sum(norm**2 for norm in norms.values()) ** 0.5


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("clip_norm", [1e-6, 1e-2])
def test_no_gradient_passes_the_norm(refined, clip_norm, cube_scene, tiny_config, tmp_path, monkeypatch) -> None:
    """Poses and exposures too, which once were measured and not clipped."""
    corrected = {"refine_poses": True, "appearance": "exposure"} if refined else {}
    free = dataclasses.replace(tiny_config, steps=3, clip_norm=0.0, **corrected)
    before = steps(free, cube_scene, monkeypatch)
    monkeypatch.undo()
    after = steps(
        dataclasses.replace(free, clip_norm=clip_norm, out=str(tmp_path / "clipped")), cube_scene, monkeypatch
    )
    assert before[0].keys() == after[0].keys() and ("poses" in before[0]) == refined
    assert total(before[0]) > 2e-2  # else there is nothing to clip
    for norms in after:
        assert total(norms) <= clip_norm * (1 + 1e-4)
    for name, norm in before[0].items():  # all by one factor: the direction stays
        assert after[0][name] == pytest.approx(norm * clip_norm / total(before[0]), rel=1e-3)


def test_the_groups_have_all_that_learns(cube_scene, tiny_config, tmp_path) -> None:
    """What a group left out would not be clipped."""
    for field in ("frequency", "hashgrid", "examples.voxel_grid:VoxelGrid"):
        config = dataclasses.replace(
            tiny_config,
            field=field,
            out=str(tmp_path / field.partition(":")[0]),
            ema_decay=0.9,
            log2_table_size=8,
            finest_resolution=16,
            grid_resolution=8,
            levels=2,
            refine_poses=True,
            appearance="exposure",
        )
        run = TrainingRun(config, cube_scene, RunFolder.create(config, "cube"), torch.device("cpu"))
        grouped = {id(parameter) for group in run.groups.values() for parameter in group}
        optimized = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
        learning = {id(parameter) for parameter in run.model.parameters() if parameter.requires_grad}
        assert grouped == optimized == learning, field


@pytest.mark.parametrize("field", ["frequency", "hashgrid"])
def test_the_names_of_the_state_do_not_depend_on_options(field, cube_scene, tiny_config, tmp_path) -> None:
    changes = ({}, {"refine_poses": True}, {"appearance": "exposure"}, {"ema_decay": 0.5}, {"tight_box": False})
    names = []
    for number, change in enumerate(changes):
        sizes = {"log2_table_size": 8, "finest_resolution": 16, "grid_resolution": 8, "levels": 2, "ema_decay": 0.9}
        config = dataclasses.replace(tiny_config, field=field, out=str(tmp_path / str(number)), **{**sizes, **change})
        run = TrainingRun(config, cube_scene, RunFolder.create(config, "cube"), torch.device("cpu"))
        names.append(set(run.model.state_dict()))
    assert all(name == names[0] for name in names)
