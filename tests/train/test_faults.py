"""Faults put into running training: detected, named, and recovered from or stopped; the best checkpoint survives."""

import dataclasses
import errno
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.corrupted_linear import corrupted_linear
from nerf_metal.models.coarse_fine.model import CoarseFineModel
from nerf_metal.models.hash_grid.model import HashGridModel
from nerf_metal.report import write_report
from nerf_metal.train import loop
from nerf_metal.train.checkpoint import checkpoint_files, find_checkpoint, store
from nerf_metal.train.checkpoint.record import open_whole
from nerf_metal.train.errors import TrainingStoppedError
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.train.schedule import learning_rate
from nerf_metal.util.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_plots")]  # two seconds each
CPU = torch.device("cpu")
AT = 400
"""Step before which the fault comes: the cube is far better than a blank picture by then, and was saved so."""


def frequency(config: TrainConfig) -> TrainConfig:
    """A run of 800 steps that evaluates and saves every 100."""
    return dataclasses.replace(config, steps=800, batch_rays=128, steps_per_epoch=100, report_every=1, ema_decay=0.9)


def hash_grid(config: TrainConfig) -> TrainConfig:
    """The same with a hash grid."""
    return dataclasses.replace(
        frequency(config),
        field="hashgrid",
        levels=4,
        log2_table_size=12,
        base_resolution=4,
        finest_resolution=32,
        grid_resolution=32,
        march_steps=64,
        batch_samples=2048,
        lr=1e-2,
        eval_every_seconds=None,
    )


Model = CoarseFineModel | HashGridModel
OPTIMIZERS: dict[Model, torch.optim.Optimizer] = {}
"""Of the models in training."""
Harm = Callable[[Model], None]
MODELS = {"frequency": (frequency, CoarseFineModel), "hashgrid": (hash_grid, HashGridModel)}


def train(config: TrainConfig, scene, folder: RunFolder, device: torch.device, **options):
    """Train, and report on it however it ends, as the command does."""
    try:
        return loop.train(config, scene, folder, device, **options)
    finally:
        write_report(folder)


def learning(model: Model) -> Iterator[torch.nn.Parameter]:
    return (parameter for group in model.layer_groups().values() for parameter in group)


@torch.no_grad()
def enlarge_weights(model: Model) -> None:
    for parameter in learning(model):
        parameter.mul_(1e3)


@torch.no_grad()
def zero_the_optimizer(model: Model) -> None:
    for state in OPTIMIZERS[model].state.values():
        state["exp_avg"].zero_()
        state["exp_avg_sq"].zero_()


def spoil_a_gradient(model: Model) -> None:
    """NaN in one entry of one gradient of the step that comes."""
    parameter = next(learning(model))

    def spoil(param: torch.Tensor) -> None:
        param.grad.view(-1)[3] = float("nan")
        handle.remove()

    handle = parameter.register_post_accumulate_grad_hook(spoil)


def spoil_a_network_gradient(model: Model) -> None:
    """The same in the hash grid's density network: a table's gradient is accumulated by the kernel itself."""
    parameter = model.layer_groups()["density"][0]
    handle = parameter.register_hook(lambda grad: (handle.remove(), grad * float("nan"))[1])


@torch.no_grad()
def kill_the_density(model: Model) -> None:
    """A bias of -50; where a network has none, densities of exp(-50) whatever the place."""
    if isinstance(model, CoarseFineModel):
        for network in (model.field.coarse, model.field.fine):
            network.density.bias.fill_(-50.0)
    else:
        first, last = model.layer_groups()["density"]
        first.abs_()
        last[0].fill_(-50.0)
        model.layer_groups()["table"][0].abs_().add_(1.0)


@pytest.fixture(autouse=True)
def optimizers(monkeypatch) -> Iterator[None]:
    """Keep the optimizer of each model at hand."""
    for kind in (CoarseFineModel, HashGridModel):

        def kept(self, lr, make=kind.optimizer):
            OPTIMIZERS[self] = make(self, lr)
            return OPTIMIZERS[self]

        monkeypatch.setattr(kind, "optimizer", kept)
    yield
    OPTIMIZERS.clear()


def run_with(config: TrainConfig, scene, kind: type, harm: Harm, monkeypatch, *, times: int = 1, at: int = AT):
    """Train with the fault before step ``at``, at most so many times; returns the watchdog's lines, the result or the
    error, the folder and all lines."""
    loss_of, done = kind.loss, []

    def harmed(self, batch, step):
        if step == at and len(done) < times:
            done.append(step)
            harm(self)
        return loss_of(self, batch, step)

    monkeypatch.setattr(kind, "loss", harmed)
    folder = RunFolder.create(config, scene.name)
    try:
        outcome = train(config, scene, folder, CPU)
    except TrainingStoppedError as error:
        outcome = error
    lines = list(folder.read_metrics())
    assert len(done) == times
    return [line for line in lines if line["event"] == "watchdog"], outcome, folder, lines


CASES = [
    ("frequency", spoil_a_gradient, {"non-finite"}),
    ("hashgrid", spoil_a_network_gradient, {"non-finite"}),
    ("frequency", enlarge_weights, {"collapse", "exploding-gradients", "non-finite"}),
    ("hashgrid", enlarge_weights, {"collapse", "exploding-gradients", "non-finite"}),
    ("frequency", kill_the_density, {"collapse", "dead-density"}),
    ("hashgrid", kill_the_density, {"collapse", "dead-density"}),
    ("frequency", zero_the_optimizer, {"optimizer-reset"}),
    ("hashgrid", zero_the_optimizer, {"optimizer-reset"}),
]


@pytest.mark.parametrize(("model", "harm", "names"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_fault_is_named_and_rolled_back(model, harm, names, cube_scene, tiny_config, monkeypatch):
    """Found within 200 steps; back to a checkpoint before it at half the rate; the end as good as without it."""
    configure, kind = MODELS[model]
    events, result, folder, lines = run_with(configure(tiny_config), cube_scene, kind, harm, monkeypatch)
    assert [event["action"] for event in events] == ["rollback"], events
    (event,) = events
    assert event["name"] in names and AT < event["step"] <= AT + 200, event
    assert 0 < event["to_step"] <= AT and event["lr_scale"] == 0.5
    assert event["sentence"].endswith(".") and event["evidence"]
    step = event["to_step"] + 20
    rate = [line["lr"] for line in lines if line["event"] == "train" and line["step"] == step][-1]
    assert rate == pytest.approx(0.5 * learning_rate(configure(tiny_config), step - 1, (step - 1) / 800))
    evals = [line for line in lines if line["event"] == "eval"]
    before = max(line["psnr"] for line in evals if line["train_seconds"] < event["train_seconds"])
    assert result.step == 800
    assert result.evaluation.psnr >= before - 1.0  # the hash grid loses 0.7 dB to overfitting, without any fault
    assert find_checkpoint(folder.checkpoints, "best").psnr == max(line["psnr"] for line in evals)
    assert event["sentence"] in " ".join(folder.summary.read_text().split())


def test_a_fault_that_comes_back_stops_the_run(cube_scene, tiny_config, monkeypatch):
    """Three rollbacks with an ever lower rate, then the end: a report, and the best checkpoint as it was."""
    config = dataclasses.replace(frequency(tiny_config), steps=500)
    events, error, folder, lines = run_with(config, cube_scene, CoarseFineModel, spoil_a_gradient, monkeypatch, times=4)
    assert [event["action"] for event in events] == ["rollback"] * 3 + ["stop"]
    assert [event.get("lr_scale") for event in events] == [0.5, 0.25, 0.125, None]
    assert isinstance(error, TrainingStoppedError) and "stopped after 3 rollbacks" in str(error)
    best = find_checkpoint(folder.checkpoints, "best")
    assert best.psnr == max(line["psnr"] for line in lines if line["event"] == "eval")
    assert "non-finite" in folder.summary.read_text() and (folder.path / "report.html").exists()
    seconds = [line["train_seconds"] for line in lines]
    assert seconds == sorted(seconds)  # also where steps go back


@pytest.mark.parametrize("policy", ["warn", "stop"])
def test_other_policies(policy, cube_scene, tiny_config, monkeypatch):
    """warn says it once and goes on; stop ends at once."""
    config = dataclasses.replace(frequency(tiny_config), steps=700, watchdog=f"rollback,optimizer-reset={policy}")
    events, outcome, *_ = run_with(config, cube_scene, CoarseFineModel, zero_the_optimizer, monkeypatch)
    assert [(event["name"], event["policy"], event["action"]) for event in events] == [
        ("optimizer-reset", policy, policy)
    ]
    assert isinstance(outcome, TrainingStoppedError) == (policy == "stop")
    if policy == "warn":
        assert outcome.step == 700 and outcome.evaluation.psnr > outcome.evaluation.blank_psnr + 3


def test_a_plateau_is_named(cube_scene, tiny_config):
    """A field that cannot learn: no better than a blank picture after the steps that are allowed, and told so."""
    config = dataclasses.replace(
        frequency(tiny_config), lr=1e-12, steps=300, plateau_steps=200, watchdog="stop", eval_every_seconds=None
    )
    folder = RunFolder.create(config, "cube")
    with pytest.raises(TrainingStoppedError, match=r"blank-plateau: (For|After) 200 steps"):
        train(config, cube_scene, folder, CPU)
    assert "blank" in folder.summary.read_text()


def test_a_rollback_restores_everything(cube_scene, tiny_config, monkeypatch):
    """Weights, optimizer, schedule, batches: with the rate unchanged, the run after it is the run without it."""
    config = dataclasses.replace(frequency(tiny_config), steps=500, rollback_lr=1.0)
    events, result, *_ = run_with(config, cube_scene, CoarseFineModel, spoil_a_gradient, monkeypatch)
    assert len(events) == 1
    monkeypatch.undo()
    other = dataclasses.replace(config, out=config.out + "-unbroken")
    unbroken = train(other, cube_scene, RunFolder.create(other, "cube"), CPU)
    for name, tensor in unbroken.model.state_dict().items():
        assert torch.equal(tensor, result.model.state_dict()[name]), name


def test_a_full_disk_while_saving(cube_scene, tiny_config, monkeypatch):
    """Saves fail from step 300 to 500: said once, the run goes on, what was saved stays whole, later saves succeed."""
    write, failed = store.write_atomically, []

    def fail(path, content):
        if 300 <= int(path.name[5:13]) <= 500:
            failed.append(path.name)
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(store, "write_atomically", fail)
    config = dataclasses.replace(frequency(tiny_config), keep_checkpoints=9)
    folder = RunFolder.create(config, "cube")
    result = train(config, cube_scene, folder, CPU)
    events = [line for line in folder.read_metrics() if line["event"] == "watchdog"]
    assert [(event["name"], event["action"], event["step"]) for event in events] == [
        ("checkpoint-not-saved", "warn", 300)
    ]
    assert "No space left on device" in events[0]["sentence"] and len(failed) == 3
    saved = [open_whole(path).step for path in checkpoint_files(folder.checkpoints)]
    assert saved == [0, 100, 200, 600, 700, 800] and result.step == 800


def test_a_full_disk_for_the_record(cube_scene, tiny_config, monkeypatch):
    """A line that cannot be written ends the run in one line that says how to go on; checkpoints are whole."""
    append = RunFolder.append_metrics

    def fail(self, **values):
        if values["step"] > 150:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.metrics))
        append(self, **values)

    monkeypatch.setattr(RunFolder, "append_metrics", fail)
    config = frequency(tiny_config)
    folder = RunFolder.create(config, "cube")
    with pytest.raises(TrainingStoppedError, match=r"must be writable, got No space left .*; .* --resume"):
        train(config, cube_scene, folder, CPU)
    assert find_checkpoint(folder.checkpoints).step == 100
    monkeypatch.undo()
    assert train(config, cube_scene, folder, CPU, resume=True).step == 800


@pytest.mark.parametrize("suffix", [".json", ".safetensors", ".optimizer.safetensors"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(suffix, cube_scene, tiny_config, capsys):
    """Resume goes on from what is whole; a record beyond it is cut, and the result is that of an unbroken run."""
    config = dataclasses.replace(frequency(tiny_config), steps=200, lr_decay_steps=200, quiet=False)
    folder = RunFolder.create(config, "cube")
    train(config, cube_scene, folder, CPU)
    path = (folder.checkpoints / "step_00000200.json").with_suffix(suffix)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    capsys.readouterr()
    longer = dataclasses.replace(config, steps=300)
    result = train(longer, cube_scene, folder, CPU, resume=True)
    assert f"note: {path.name} is damaged" in capsys.readouterr().out
    steps = [line["step"] for line in folder.read_metrics() if line["event"] == "train"]
    assert result.step == 300 and steps == list(range(20, 301, 20))
    other = dataclasses.replace(longer, out=config.out + "-unbroken", quiet=True)
    unbroken = train(other, cube_scene, RunFolder.create(other, "cube"), CPU)
    for name, tensor in unbroken.model.state_dict().items():
        assert torch.equal(tensor, result.model.state_dict()[name]), name


def test_products_that_torch_gets_wrong(cube_scene, tiny_config):
    """As torch before 2.14 on an M1: seen before the first step, calls cut, and the run is as good as any."""
    config = dataclasses.replace(frequency(tiny_config), steps=200, hidden_width=16)
    folder = RunFolder.create(config, "cube")
    with corrupted_linear(limit=1024) as memory:  # a step has 128 x 8 and 128 x 16 rows
        result = train(config, cube_scene, folder, CPU)
        seen = memory.corrupted
    (event,) = (line for line in folder.read_metrics() if line["event"] == "watchdog")
    assert (event["name"], event["action"], event["step"]) == ("wrong-matmul", "warn", 0)
    assert "#177116" in event["sentence"] and event["evidence"]["rows_used"] < 1024 <= event["evidence"]["rows_wrong"]
    assert result.evaluation.psnr > result.evaluation.blank_psnr + 3
    assert 0 < seen < 20  # the self-test's own calls, none of the training's


def test_a_fault_before_an_evaluation_is_not_measured(cube_scene, tiny_config, monkeypatch):
    """NaN between two lines of the record: found before the pictures are rendered, and gone after the rollback."""
    config = dataclasses.replace(frequency(tiny_config), steps=500, steps_per_epoch=205)
    events, result, _, lines = run_with(config, cube_scene, CoarseFineModel, spoil_a_gradient, monkeypatch)
    assert [(event["name"], event["step"], event["to_step"]) for event in events] == [("non-finite", 410, 205)]
    assert [line["step"] for line in lines if line["event"] == "eval"] == [205, 410, 500] and result.step == 500


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "harm", [enlarge_weights, zero_the_optimizer, spoil_a_network_gradient], ids=lambda x: x.__name__
)
def test_nothing_bad_is_saved_as_good(model, harm, cube_scene, tiny_config, monkeypatch):
    """A checkpoint that is due by its time right behind the fault: the line before it sees the fault first, and the run
    goes back to before it."""
    if model == "frequency" and harm is spoil_a_network_gradient:
        harm = spoil_a_gradient
    configure, kind = MODELS[model]
    config = dataclasses.replace(configure(tiny_config), steps=450, checkpoint_every_seconds=0.001)
    events, result, *_ = run_with(config, cube_scene, kind, harm, monkeypatch, at=403)
    assert [event["action"] for event in events] == ["rollback"]
    assert events[0]["to_step"] <= 403 < events[0]["step"] and result.step == 450


def test_a_checkpoint_that_fails_again_is_not_taken_twice(cube_scene, tiny_config, monkeypatch):
    """Something that shows only later was in it already: the next rollback goes further back."""
    config = dataclasses.replace(frequency(tiny_config), steps=500)
    events, result, *_ = run_with(config, cube_scene, CoarseFineModel, spoil_a_gradient, monkeypatch, times=2, at=410)
    assert [event["to_step"] for event in events] == [400, 300] and result.step == 500


def test_a_run_killed_after_a_rollback_remembers_it(cube_scene, tiny_config, monkeypatch):
    """Resumed at the lower rate, with the rollback counted and its line in the record."""
    loss_of = CoarseFineModel.loss

    def dying(self, batch, step):
        rate = OPTIMIZERS[self].param_groups[0]["lr"]
        if step == AT + 5 and rate < 0.6 * learning_rate(config, step, step / 800):
            raise KeyboardInterrupt  # the second Ctrl-C: as sudden as a kill
        return loss_of(self, batch, step)

    config = frequency(tiny_config)
    monkeypatch.setattr(CoarseFineModel, "loss", dying)
    with pytest.raises(KeyboardInterrupt):
        run_with(config, cube_scene, CoarseFineModel, spoil_a_gradient, monkeypatch)
    monkeypatch.undo()
    folder = RunFolder(Path(config.out))
    last = find_checkpoint(folder.checkpoints)
    assert (last.step, last.rollbacks, last.state["lr_scale"]) == (AT, 1, 0.5)
    train(config, cube_scene, folder, CPU, resume=True)
    lines = list(folder.read_metrics())
    assert [line["action"] for line in lines if line["event"] == "watchdog"] == ["rollback"]
    assert lines[-1]["lr"] == pytest.approx(0.5 * learning_rate(config, 799, 799 / 800))
    seconds = [line["train_seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_a_refused_resume_changes_nothing(cube_scene, tiny_config):
    """Too little memory for the run's options: options and record are as they were."""
    config = dataclasses.replace(frequency(tiny_config), steps=110)
    folder = RunFolder.create(config, "cube")
    train(config, cube_scene, folder, CPU)
    folder.append_metrics(event="train", step=120, epoch=1, train_seconds=99.0)
    before = [(folder.path / name).read_bytes() for name in ("config.json", "metrics.jsonl")]
    with pytest.raises(InputError, match="--max-memory must be at least"):
        train(dataclasses.replace(config, steps=200, max_memory=1e-6), cube_scene, folder, CPU, resume=True)
    assert [(folder.path / name).read_bytes() for name in ("config.json", "metrics.jsonl")] == before


def test_a_run_stopped_before_its_first_evaluation(cube_scene, tiny_config):
    """As the preset stable would be: the report says why, with what is known of the training rays."""
    config = dataclasses.replace(
        frequency(tiny_config), lr=1e-12, report_every=50, plateau_steps=100, watchdog="stop", eval_every_seconds=None
    )
    folder = RunFolder.create(config, "cube")
    with pytest.raises(TrainingStoppedError, match="blank-plateau: For 100 steps"):
        train(config, cube_scene, folder, CPU)
    summary = " ".join(folder.summary.read_text().split())
    assert "blank-plateau" in summary and re.search(r"training rays.* 0\.\d+", summary)
    assert (folder.path / "report.html").exists()


def test_a_warning_is_news_again_after_all_was_well(cube_scene, tiny_config, monkeypatch):
    """With the policy warn, as in the preset baseline: two losses of the optimizer's state are two warnings."""
    config = dataclasses.replace(frequency(tiny_config), watchdog="warn")
    loss_of = CoarseFineModel.loss

    def harmed(self, batch, step):
        if step in (300, 600):
            zero_the_optimizer(self)
        return loss_of(self, batch, step)

    monkeypatch.setattr(CoarseFineModel, "loss", harmed)
    folder = RunFolder.create(config, "cube")
    train(config, cube_scene, folder, CPU)
    events = [line for line in folder.read_metrics() if line["event"] == "watchdog"]
    assert [(event["name"], event["step"]) for event in events if event["name"] == "optimizer-reset"] == [
        *(("optimizer-reset", 320), ("optimizer-reset", 620))
    ]
