"""Checkpoints: exact round trips, only whole ones count, and messages that help."""

import json

import pytest
import torch

from nerf_metal import checkpoint as checkpoints
from nerf_metal.errors import InputError
from nerf_metal.methods import build_method

BOX = torch.tensor([[-1.0, -2.0, -3.0], [1.0, 2.0, 3.0]])


def trained(config) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model after one step of Adam."""
    model = build_method(config, BOX, 2.0, 6.0).module
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    sum(p.square().sum() for p in model.parameters()).backward()
    optimizer.step()
    return model, optimizer


def save(folder, config, step: int = 7):
    """Write a checkpoint of a fresh model."""
    model, optimizer = trained(config)
    checkpoints.save_checkpoint(folder, model, optimizer, config, step=step, train_seconds=1.5, near=2.0, far=6.0)
    return model, optimizer


def test_round_trip(tmp_path, tiny_config):
    """Weights, box, moments, step, seconds and options come back exactly."""
    model, optimizer = save(tmp_path, tiny_config)
    found = checkpoints.find_checkpoint(tmp_path)
    assert (found.step, found.train_seconds, found.near, found.far) == (7, 1.5, 2.0, 6.0)
    assert checkpoints.to_json(found.config) == checkpoints.to_json(tiny_config)
    other = build_method(tiny_config, torch.zeros(2, 3), 2.0, 6.0).module
    fresh = torch.optim.Adam(other.parameters(), lr=1e-3, fused=True)
    checkpoints.load_weights(found, other)
    checkpoints.load_optimizer(found, other, fresh)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert torch.equal(other.aabb, BOX)
    for mine, its in zip(optimizer.state_dict()["state"].values(), fresh.state_dict()["state"].values(), strict=True):
        assert mine.keys() == its.keys() and all(torch.equal(mine[key], its[key]) for key in mine)


def test_only_the_last_ones_stay(tmp_path, tiny_config):
    """The newest checkpoints remain, with all their files and no others."""
    for step in (1, 20, 300):
        save(tmp_path, tiny_config, step)
    assert checkpoints.find_checkpoint(tmp_path).step == 300
    suffixes = ("json", "optimizer.safetensors", "safetensors")
    expected = [f"step_{step:08d}.{suffix}" for step in (20, 300) for suffix in suffixes]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected


def test_interrupted_write_leaves_the_one_before(tmp_path, tiny_config, monkeypatch):
    """A write that dies at any file leaves no trace and the old checkpoint in force."""
    save(tmp_path, tiny_config, 1)
    before = sorted(path.name for path in tmp_path.iterdir())

    def die(*_):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", die)
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path, tiny_config, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert checkpoints.find_checkpoint(tmp_path).step == 1


def test_another_model_is_refused(tmp_path, tiny_config):
    """The message names the first tensor that differs, both shapes, and what to do."""
    import dataclasses

    save(tmp_path, tiny_config)
    wider = build_method(dataclasses.replace(tiny_config, hidden_width=24), BOX, 2.0, 6.0).module
    with pytest.raises(
        InputError, match=r"must hold coarse\.color\.weight of shape \[3, 12\], got \[3, 8\]; .* use the"
    ):
        checkpoints.load_weights(checkpoints.find_checkpoint(tmp_path), wider)
    deeper = build_method(dataclasses.replace(tiny_config, depth=3), BOX, 2.0, 6.0).module
    with pytest.raises(InputError, match=r"must hold coarse\.trunk\.2\.bias of shape \[16\], got nothing; "):
        checkpoints.load_weights(checkpoints.find_checkpoint(tmp_path), deeper)


def test_missing_and_damaged_files(tmp_path, tiny_config):
    """Nothing there, a JSON that is none, another format, and weights that are cut off."""
    with pytest.raises(InputError, match=r"must hold a checkpoint \(step_\*\.json\), got none; "):
        checkpoints.find_checkpoint(tmp_path)
    model, _ = save(tmp_path, tiny_config)
    found = checkpoints.find_checkpoint(tmp_path)
    weights = found.path.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"must be a whole safetensors file, got .*; delete its JSON"):
        checkpoints.load_weights(found, model)
    weights.unlink()
    with pytest.raises(InputError, match=r"must exist beside its JSON, got nothing; "):
        checkpoints.load_weights(found, model)
    about = json.loads(found.path.read_text())
    found.path.write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(InputError, match=r"must have format 1, got 99; "):
        checkpoints.find_checkpoint(tmp_path)
    for text in ("{", "[]", "{}"):
        found.path.write_text(text)
        with pytest.raises(InputError, match=r"must be a checkpoint's JSON, got \w+: .*; delete it"):
            checkpoints.find_checkpoint(tmp_path)
