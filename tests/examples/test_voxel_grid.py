"""A model that nobody planned for: trained, evaluated, rendered, exported and resumed by the commands as they are."""

import json

import pytest
import torch

from nerf_metal.cli import main

FIELD = ("--field", "examples.voxel_grid:VoxelGrid")


@pytest.mark.slow  # 15 seconds
def test_the_commands_take_it(tmp_path, capsys) -> None:
    scene, run = str(tmp_path / "scene"), tmp_path / "run"
    assert main(["make-scene", scene, "--resolution", "24", "--train-views", "12", "--test-views", "2"]) == 0
    options = [*FIELD, "--field-options", "resolution=32,num_steps=48", "--data", scene, "--downscale", "1"]
    common = ["--device", "cpu", "--quiet"]
    words = ["train", *options, *common, "--steps", "150", "--out", str(run), "--eval-views", "2"]
    assert main(words) == 0
    last = [
        line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if line["event"] == "eval"
    ][-1]
    assert last["psnr"] > last["blank_psnr"] + 3
    assert main(["train", "--resume", str(run), "--steps", "160", *common]) == 0
    assert main(["eval", str(run), "--device", "cpu"]) == 0
    assert json.loads((run / "evaluation.json").read_text())["psnr"] > last["blank_psnr"] + 3
    assert main(["render", str(run), "--path", "test", "--views", "1", "--device", "cpu"]) == 0
    export = ["export", str(run), "--format", "ply", "--resolution", "32", "--threshold", "5", "--device", "cpu"]
    assert main(export) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("--field", "hashgird"), ("--field", "hashgrid, frequency or MODULE:CLASS", "hashgird")),
        (("--field", "examples.voxel_grid:Grid"), ("--field", "examples.voxel_grid:Grid")),
        (("--field", "nowhere:Model"), ("--field", "nowhere:Model")),
        (("--field", "pathlib:Path"), ("--field", "pathlib:Path", "subclass")),
        ((*FIELD, "--field-options", "size=3"), ("--field-options", "resolution, num_steps", "size=3")),
        ((*FIELD, "--field-options", "resolution=1"), ("--resolution", "at least 2", "got 1")),
        ((*FIELD, "--field-options", "resolution=big"), ("--field-options resolution", "int", "big")),
        (("--field-options", "resolution=3"), ("--field-options", "no options of its own", "resolution=3")),
    ],
)
def test_bad_input_is_one_line(words, names, capsys) -> None:
    assert main(["train", *words, "--steps", "1", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: [train] --") and error.count("\n") == 1
    assert all(name in error for name in names), error


def test_what_is_not_given_has_its_default() -> None:
    from nerf_metal.models.registry import model_config
    from nerf_metal.train.options import TrainConfig

    config = model_config(FIELD[1], TrainConfig(backend="host"), "resolution=8")
    assert (config.resolution, config.num_steps, config.backend) == (8, 128, "host")


def test_its_density_ends_at_the_box() -> None:
    from examples.voxel_grid import VoxelGrid, VoxelGridConfig
    from nerf_metal.models import Space

    box = torch.tensor([[-1.0, -2.0, -1.0], [1.0, 2.0, 1.0]])
    model = VoxelGrid(VoxelGridConfig(resolution=4), Space(box, 0.1, 10.0))
    positions = torch.tensor([[0.0, 1.9, 0.0], [0.0, 2.1, 0.0], [1.1, 0.0, 0.0]])
    assert (model.density(positions) > 0).tolist() == [True, False, False]
    assert torch.equal(model.box, box)
