"""Checkpoints: exact round trips, which stay, which is found, and messages that help."""

import dataclasses
import hashlib
import json
import math
import os

import pytest
import torch

from nerf_metal.nn.optimizers import FusedAdam
from nerf_metal.train.checkpoint import checkpoint_files, find_checkpoint, load_optimizer, load_weights
from nerf_metal.train.options import to_json
from nerf_metal.util.errors import InputError
from tests.stepping import fresh_model
from tests.train.checkpoint.saving import BOX, CONFIG, SUFFIXES, contents, save, steps, trained, whole


def test_round_trip(tmp_path):
    """Weights, box, moments and everything in the JSON come back exactly."""
    model, optimizer = trained()
    state = {"lr_scale": 0.1, "seen": {2: [1, None], 10: "ü"}}
    save(tmp_path, 7, model, optimizer, rollbacks=2, psnr=0.1 + 0.2, good=False, state=state)
    found = whole(tmp_path)
    assert (found.step, found.train_seconds, found.near, found.far) == (7, 0.7, 2.0, 6.0)
    assert (found.rollbacks, found.psnr, found.good) == (2, 0.1 + 0.2, False)
    assert found.state == {"lr_scale": 0.1, "seen": {"2": [1, None], "10": "ü"}}  # as JSON has it
    assert to_json(found.config) == to_json(CONFIG)
    other = fresh_model(CONFIG, torch.zeros(2, 3))
    fresh = torch.optim.Adam(other.parameters(), lr=1e-3, fused=True)
    load_weights(found, other)
    load_optimizer(found, other, fresh)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert torch.equal(other.field.aabb, BOX)
    for mine, its in zip(optimizer.state_dict()["state"].values(), fresh.state_dict()["state"].values(), strict=True):
        assert mine.keys() == its.keys() and all(torch.equal(mine[key], its[key]) for key in mine)


def test_what_the_json_says_is_the_format(tmp_path):
    """Sizes, SHA-256 and checksum, reckoned anew as other programs would."""
    path = save(tmp_path, 7, psnr=20.5)
    about = json.loads(path.read_text())
    assert (about["format"], about["step"], about["psnr"], about["good"], about["rollbacks"]) == (3, 7, 20.5, True, 0)
    for suffix in SUFFIXES[1:]:
        data = path.with_suffix(suffix).read_bytes()
        assert about["files"].pop(f"step_00000007{suffix}") == {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    assert about["files"] == {}
    assert about["shapes"]["field.aabb"] == [2, 3]


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.Adam(parameters, lr=0.01, eps=1e-15, fused=True),
        lambda parameters: FusedAdam(parameters, lr=0.01, sparse=True),
    ],
    ids=["torch", "ours"],
)
def test_moments_and_step_are_all_that_adam_needs(tmp_path, make):
    """Three steps, through the files, three more: the bits of six, though no options of the optimizer are saved. A
    later checkpoint goes back over a live optimizer as well, and one from before the first step."""

    def train(model, optimizer, numbers):
        for number in numbers:
            random = torch.Generator().manual_seed(number)
            optimizer.zero_grad()
            sum((p * torch.randn(p.shape, generator=random)).square().sum() for p in model.parameters()).backward()
            optimizer.step()
        return [parameter.detach().clone() for parameter in model.parameters()]

    model = fresh_model(CONFIG, BOX)
    optimizer = make(model.parameters())
    save(tmp_path, 0, model, optimizer, keep=9)
    train(model, optimizer, range(3))
    save(tmp_path, 3, model, optimizer, keep=9)
    unbroken = train(model, optimizer, range(3, 6))
    moments = [dict(state) for state in optimizer.state_dict()["state"].values()]

    fresh = fresh_model(CONFIG, torch.zeros(2, 3))
    for network, adam in ((fresh, make(fresh.parameters())), (model, optimizer)):
        found = whole(tmp_path)
        load_weights(found, network)
        load_optimizer(found, network, adam)
        for a, b in zip(unbroken, train(network, adam, range(3, 6)), strict=True):
            assert torch.equal(a, b)
        for a, b in zip(moments, adam.state_dict()["state"].values(), strict=True):
            assert all(torch.equal(a[key], b[key]) for key in ("step", "exp_avg", "exp_avg_sq"))

    path = save(tmp_path / "..", 1)  # else the start is not the newest
    for suffix in SUFFIXES:
        path.with_suffix(suffix).unlink()
        (tmp_path / "step_00000003").with_suffix(suffix).unlink()
    found = whole(tmp_path)
    load_weights(found, model)
    load_optimizer(found, model, optimizer)
    assert not optimizer.state
    for a, b in zip(unbroken, train(model, optimizer, range(6)), strict=True):
        assert torch.equal(a, b)


def test_only_what_is_needed_stays(tmp_path):
    """The newest, however many are asked for; the best, though it is old; the newest good one."""
    for step, psnr, good in ((1, 12.0, True), (2, 25.0, True), (3, 20.0, True), (4, 9.0, False), (5, 9.5, False)):
        save(tmp_path, step, psnr=psnr, good=good)
    assert steps(tmp_path) == [2, 3, 4, 5]
    assert [whole(tmp_path, which).step for which in ("last", "best", "good")] == [5, 2, 3]
    save(tmp_path, 6, psnr=25.0, keep=1)  # as good as the best, and newer
    assert steps(tmp_path) == [6]
    for step in (7, 8, 9, 10):
        save(tmp_path, step, psnr=math.nan if step == 8 else None, keep=3)
    assert steps(tmp_path) == [6, 8, 9, 10]
    assert whole(tmp_path, "best").step == 6


def test_a_run_rolled_back_goes_on_beside_what_it_left(tmp_path):
    """The newest is that of the last rollback, whatever its step. A step saved again behind a rollback takes the place
    of what it was, so that there is still one before it to go back to; one that was better stays."""
    for step in (100, 900):
        save(tmp_path, step, psnr=step / 50)
    before = {name: data for name, data in contents(tmp_path).items() if "900" in name}
    save(tmp_path, 100, rollbacks=1, psnr=2.0)
    assert contents(tmp_path).items() > before.items()
    save(tmp_path, 20, rollbacks=10, keep=3)
    assert [path.stem for path in checkpoint_files(tmp_path)] == [
        *("step_00000900", "step_00000100_rollback_1", "step_00000020_rollback_10")
    ]
    assert (whole(tmp_path).step, whole(tmp_path).rollbacks, whole(tmp_path, "best").step) == (20, 10, 900)


def test_what_to_avoid_is_taken_last(tmp_path):
    """An older good one before those that have failed already; these where there is no other."""
    for step in (100, 200, 300):
        save(tmp_path, step, keep=3)
    names = [path.name for path in checkpoint_files(tmp_path)]
    assert find_checkpoint(tmp_path, "good", avoid=names[2:]).step == 200
    assert find_checkpoint(tmp_path, "good", avoid=names[1:]).step == 100
    assert find_checkpoint(tmp_path, "good", avoid=names).step == 300


def test_leftovers_of_killed_saves_are_swept(tmp_path):
    """Temporaries, tensors without JSON; and nothing that is not ours."""
    save(tmp_path, 1)
    (tmp_path / ".step_00000002.safetensors.tmp").write_bytes(b"half")
    (tmp_path / "step_00000002.safetensors").write_bytes(b"whole, but what is it?")
    (tmp_path / "step_00000002_rollback_1.optimizer.safetensors").write_bytes(b"the same")
    save(tmp_path, 3)
    assert steps(tmp_path) == [1, 3]
    for name in ("my.safetensors", "step_x.safetensors"):
        (tmp_path / name).write_bytes(b"a person's")
    save(tmp_path, 4)
    assert {"my.safetensors", "step_x.safetensors"} < set(contents(tmp_path))


def test_a_step_done_again(tmp_path, monkeypatch):
    """Whole files stay as they are; a damaged checkpoint is replaced, its JSON gone before any other file comes."""
    path = save(tmp_path, 5, psnr=20.0)
    before = contents(tmp_path)
    save(tmp_path, 5)
    assert contents(tmp_path) == before
    replace, there = os.replace, []
    monkeypatch.setattr(os, "replace", lambda *paths: (there.append(path.exists()), replace(*paths)))
    for suffix in SUFFIXES:
        path.with_suffix(suffix).write_bytes(b"")
        save(tmp_path, 5, psnr=20.0)
        assert contents(tmp_path) == before
    assert there == 3 * [False, False, False]


def test_best_without_an_evaluation_is_the_last(tmp_path):
    """And it is said."""
    save(tmp_path, 1)
    save(tmp_path, 2)
    found = find_checkpoint(tmp_path, "best")
    assert found.step == 2 and found.notes == ("no checkpoint was evaluated; the last one, of step 2, is used",)


def test_nothing_to_find(tmp_path):
    """No checkpoint, or none that is good."""
    with pytest.raises(InputError, match=r"must hold a checkpoint \(step_\*\.json\), got none; "):
        find_checkpoint(tmp_path)
    save(tmp_path, 1, good=False)
    with pytest.raises(InputError, match=r"must hold a good checkpoint, got: none .*; train again"):
        find_checkpoint(tmp_path, "good")


def test_another_model_is_refused(tmp_path):
    """The message names the first tensor that differs, both shapes or dtypes, and what to do."""
    path = save(tmp_path, 1)
    found = whole(tmp_path)
    wider, deeper = (
        fresh_model(dataclasses.replace(CONFIG, **change), BOX) for change in ({"hidden_width": 24}, {"depth": 3})
    )
    with pytest.raises(
        InputError, match=r"must hold field\.coarse\.color\.weight of shape \[3, 12\], got \[3, 4\]; .* use the"
    ):
        load_weights(found, wider)
    with pytest.raises(InputError, match=r"must hold field\.coarse\.trunk\.2\.bias of shape \[8\], got nothing; "):
        load_weights(found, deeper)
    with pytest.raises(InputError, match=r"must hold corrections\.gains of torch\.float64, got torch\.float32; "):
        load_weights(found, trained()[0].double())
    net = torch.nn.Linear(2, 2)
    with pytest.raises(
        InputError, match=rf"{path.stem}\.optimizer.* must hold field\.coarse\.\S+ of shape nothing, got \[\d"
    ):
        load_optimizer(found, net, torch.optim.Adam(net.parameters()))
