"""The training loop: it learns, repeats itself, resumes, stops, and says when it fails."""

import dataclasses
import json
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from nerf_metal.data.batches import RayBatch, RayBatches, step_seed
from nerf_metal.models import memory
from nerf_metal.models.coarse_fine import model as coarse_fine
from nerf_metal.models.coarse_fine.sampler import Sampler
from nerf_metal.reference import intersect_rays
from nerf_metal.report import write_report
from nerf_metal.train import health, recorder, statistics
from nerf_metal.train.checkpoint import checkpoint_files
from nerf_metal.train.checkpoint.record import read
from nerf_metal.train.errors import TrainingStoppedError
from nerf_metal.train.interrupt import StopRequest
from nerf_metal.train.loading import load_model
from nerf_metal.train.loop import train
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.train.schedule import learning_rate, part_done
from nerf_metal.util.errors import InputError

CPU = torch.device("cpu")


def run(config: TrainConfig, scene, **options):
    """Train into a fresh folder; returns result and folder."""
    folder = RunFolder.create(config, scene.name)
    return train(config, scene, folder, CPU, **options), folder


def weights(result) -> dict[str, torch.Tensor]:
    """The trained weights."""
    return result.model.state_dict()


def assert_same(one, other) -> None:
    """Two results with the same bits."""
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name


def test_it_learns(cube_scene, tiny_config):
    """400 steps beat the blank picture by far on a cube."""
    result, _ = run(dataclasses.replace(tiny_config, steps=400, batch_rays=128), cube_scene)
    assert result.evaluation.psnr > result.evaluation.blank_psnr + 4


def test_a_run_leaves_its_files(cube_scene, tiny_config):
    """Every file of a run, and metrics lines with exactly the names that other programs read."""
    result, folder = run(tiny_config, cube_scene)
    write_report(folder)
    names = {path.name for path in folder.path.iterdir()}
    expected = {"config.json", "metrics.jsonl", "checkpoints", "SUMMARY.md", "report.html"}
    assert names == expected | {"training_losses.png", "psnr_ssim.png", "quick_render_epoch_02.png"}
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    train_lines = [line for line in lines if line["event"] == "train"]
    assert [line["step"] for line in train_lines] == [20, 40]
    assert set(train_lines[0]) >= {"event", "step", "epoch", "train_seconds", "loss", "rays_per_second"}
    (last,) = (line for line in lines if line["event"] == "eval")
    numbers = {"mse", "psnr", "ssim", "blank_psnr"}
    assert set(last) == {"event", "step", "epoch", "train_seconds", "split", "views"} | numbers
    assert (last["step"], last["epoch"], last["split"], last["views"]) == (40, 2, "test", 2)
    assert last["psnr"] == result.evaluation.psnr
    summary = folder.summary.read_text()
    assert f"{last['psnr']:.2f} dB on 2 test views" in summary and "made for a test" in summary


def test_the_record_of_a_report(cube_scene, tiny_config):
    """Beside each evaluation: norms by layer group as they are, the rate, and what the rays meet."""
    config = dataclasses.replace(tiny_config, epochs=2, steps=None, report_every=1)
    result, folder = run(config, cube_scene)
    lines = list(folder.read_metrics())
    assert [(line["event"], line["epoch"]) for line in lines if line["event"] in ("eval", "health")] == [
        *(("eval", 1), ("health", 1), ("eval", 2), ("health", 2))
    ]
    health = lines[-1]
    parts = {f"{network}.{part}" for network in ("coarse", "fine") for part in ("trunk", "density", "color")}
    assert set(health["groups"]) == parts
    field = result.model.field
    trunk = torch.cat([p.detach().flatten() for p in field.fine.trunk.parameters()])
    assert health["groups"]["fine.trunk"]["weight_norm"] == pytest.approx(float(trunk.norm()), rel=1e-5)
    assert all(0 < group["update_ratio"] < 0.1 and group["grad_norm"] > 0 for group in health["groups"].values())
    train_line = lines[-3]
    assert (health["empty_rays"], health["opaque_rays"]) == (train_line["empty_rays"], train_line["opaque_rays"])
    total = sum(group["grad_norm"] ** 2 for group in health["groups"].values()) ** 0.5
    assert total <= train_line["grad_norm"] * (1 + 1e-5)  # the line has the greatest of its steps
    assert 0 < train_line["mse"] < 1 and 0 < train_line["blank_mse"] < 1
    about = json.loads((folder.path / "config.json").read_text())
    assert (about["device"], about["notes"]) == ("cpu", ["made for a test"]) and about["machine"]["logical_cores"]


def test_norms_that_are_no_numbers_are_left_out_of_the_files(cube_scene, tiny_config, monkeypatch):
    """JSON has no infinity; the report takes what is there."""
    norms = health.weight_norms
    monkeypatch.setattr(health, "weight_norms", lambda groups: norms(groups) * torch.tensor([float("inf")] * 6))
    config = dataclasses.replace(tiny_config, steps_per_epoch=20, report_every=1)
    _, folder = run(config, cube_scene)
    write_report(folder)
    lines = [line for line in folder.read_metrics() if line["event"] == "health"]
    assert len(lines) == 2 and all(set(group) == {"grad_norm", "update_ratio"} for group in lines[0]["groups"].values())
    assert folder.report.exists()


def test_checkpoints_between_evaluations(cube_scene, tiny_config, monkeypatch):
    """By the seconds of training; the first is there before the first step, the best is the one with the best PSNR."""
    now = 0.0

    def clock():
        nonlocal now
        now += 0.025
        return now

    monkeypatch.setattr(statistics, "time", SimpleNamespace(perf_counter=clock))
    config = dataclasses.replace(tiny_config, checkpoint_every_seconds=0.25, keep_checkpoints=9, report_every=1)
    result, folder = run(config, cube_scene)
    found = {path.name: read(path) for path in checkpoint_files(folder.checkpoints)}
    steps = [checkpoint.step for checkpoint in found.values()]
    assert steps[0] == 0 and steps[-1] == 40 and len(steps) >= 5
    scored = [checkpoint.step for checkpoint in found.values() if checkpoint.psnr is not None]
    assert scored == [20, 40]
    assert found["step_00000040.json"].psnr == result.evaluation.psnr


def test_pictures_are_of_the_average(cube_scene, tiny_config, tmp_path):
    """With --ema-decay the pictures are of averaged weights, training is the same, and both are saved."""
    plain, _ = run(tiny_config, cube_scene)
    config = dataclasses.replace(tiny_config, ema_decay=0.99, out=str(tmp_path / "ema"))
    averaged, folder = run(config, cube_scene)
    model, checkpoint = load_model(folder)
    saved = load_file(checkpoint.path.with_suffix(".safetensors"))
    for name, tensor in weights(plain).items():
        assert torch.equal(tensor, saved[name]), name
    name = "field.fine.color.weight"
    assert not torch.equal(saved[name], saved[f"average.{name}"])
    assert averaged.evaluation.psnr != plain.evaluation.psnr
    for pictured in (averaged.model, model):
        assert torch.equal(pictured.state_dict()[name], saved[f"average.{name}"])
        assert torch.equal(pictured.field.aabb, saved["field.aabb"])


def test_crops_at_the_start(cube_scene):
    """The first steps see the middle of the pictures alone, later ones all of it."""
    split = cube_scene.splits["train"]
    size, sampler = split.intrinsics.width, Sampler(8, 8, cube_scene.near, cube_scene.far)
    batches = RayBatches(
        split,
        cube_scene.aabb,
        near=sampler.near,
        far=sampler.far,
        background="white",
        seed=5,
        device=CPU,
        precrop_steps=2,
    )

    def greatest_angle(step: int) -> float:
        """Of the rays off the cameras' axes, as pixels off the middle along an axis."""
        batch = batches.draw(step, 256)
        forward = -split.c2w[:, :3, 2]
        eyes = split.c2w[:, :3, 3]
        view = torch.cdist(batch.rays_o, eyes).argmin(1)
        right, up = split.c2w[view, :3, 0], split.c2w[view, :3, 1]
        depth = (batch.rays_d * forward[view]).sum(-1)
        across = torch.stack(((batch.rays_d * right).sum(-1), (batch.rays_d * up).sum(-1)), -1) / depth[:, None]
        return float(across.abs().max() * split.intrinsics.fl_x)

    assert greatest_angle(0) < size / 4 and greatest_angle(1) < size / 4
    assert greatest_angle(2) > size / 4


def test_equal_seeds_give_equal_runs(cube_scene, tiny_config, tmp_path):
    """Bit for bit on a CPU; another seed gives another run."""
    one, _ = run(tiny_config, cube_scene)
    torch.manual_seed(123)  # whatever else the program drew
    two, _ = run(dataclasses.replace(tiny_config, out=str(tmp_path / "two")), cube_scene)
    assert_same(one, two)
    three, _ = run(dataclasses.replace(tiny_config, out=str(tmp_path / "three"), seed=1), cube_scene)
    assert not torch.equal(weights(one)["field.fine.color.weight"], weights(three)["field.fine.color.weight"])


def test_resumed_equals_unbroken(cube_scene, tiny_config, tmp_path):
    """Half a run, resumed, ends with the bits of a whole one; metrics and seconds go on."""
    fixed = dataclasses.replace(tiny_config, lr_decay_steps=40)  # else the decay follows the run's length
    whole, _ = run(fixed, cube_scene)
    half = dataclasses.replace(fixed, steps=20, out=str(tmp_path / "half"))
    first, folder = run(half, cube_scene)
    folder.append_metrics(event="train", step=33, train_seconds=9.0, loss=1.0, rays_per_second=1.0)  # lost steps
    rest = train(dataclasses.replace(half, steps=40), cube_scene, folder, CPU, resume=True)
    assert_same(whole, rest)
    assert rest.train_seconds > first.train_seconds
    assert [line["step"] for line in folder.read_metrics() if line["event"] == "train"] == [20, 40]


def test_a_finished_run_is_not_resumed(cube_scene, tiny_config):
    """Nothing left to do is bad input, with the cure."""
    _, folder = run(tiny_config, cube_scene)
    with pytest.raises(InputError, match=r"--resume must .*, got a run of 40 steps .*; give"):
        train(tiny_config, cube_scene, folder, CPU, resume=True)


def test_steps_and_parts_share_no_random_numbers():
    """The kernels take the low 32 bits."""
    nothing = torch.zeros(16, 3)
    batches = (RayBatch(*[nothing] * 6, step_seed(3, step)) for step in range(5000))
    seeds = {part.seed & 0xFFFFFFFF for batch in batches for part in batch.split(1)}
    assert len(seeds) == 5000 * 16


def test_parts_of_a_batch_are_the_batch(cube_scene, tiny_config, tmp_path, monkeypatch):
    """A batch split for lack of memory gives the gradients of the whole, up to rounding and jitter."""
    # With jitter, parts draw other numbers.
    monkeypatch.setattr(coarse_fine, "render_rays", _without_jitter(coarse_fine.render_rays))
    config = dataclasses.replace(tiny_config, steps=1)
    whole, _ = run(config, cube_scene)
    monkeypatch.setattr(memory, "rays_within", lambda *_: 7)
    parts, _ = run(dataclasses.replace(config, out=str(tmp_path / "parts")), cube_scene)
    for name, tensor in weights(whole).items():
        # Adam's first step is the sign of the gradient: compare where the gradient is not rounding noise.
        close = torch.isclose(tensor, weights(parts)[name], rtol=1e-3, atol=1e-5)
        assert close.float().mean() > 0.98, name


def _without_jitter(render_rays):
    def render(*args, **options):
        return render_rays(*args, **{**options, "stratified": False})

    return render


def test_seconds_count_training_only(cube_scene, tiny_config, monkeypatch):
    """A slow evaluation neither counts as training nor ends the run early. On a clock of the test's own: a step, and
    whatever else is timed, takes 25 ms, an evaluation 10 s."""
    now = 0.0

    def clock():
        nonlocal now
        now += 0.025
        return now

    def slow(*args, **options):
        nonlocal now
        now += 10.0
        return evaluate(*args, **options)

    evaluate = recorder.evaluate
    monkeypatch.setattr(recorder, "evaluate", slow)
    monkeypatch.setattr(statistics, "time", SimpleNamespace(perf_counter=clock))
    config = dataclasses.replace(tiny_config, steps=None, max_seconds=0.6, eval_every_seconds=0.2)
    result, folder = run(config, cube_scene)
    seconds = [line["train_seconds"] for line in folder.read_metrics() if line["event"] == "eval"]
    assert len(seconds) == 3
    assert seconds == sorted(seconds)
    assert 0.6 <= result.train_seconds < 0.7
    assert result.step >= 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_a_checkpoint(cube_scene, tiny_config, number, monkeypatch):
    """The step is finished, a checkpoint written, nothing evaluated, and the run can be resumed."""
    draw = RayBatches.draw

    def interrupting(self, step, rays):
        if step == 15:
            signal.raise_signal(number)
        return draw(self, step, rays)

    monkeypatch.setattr(RayBatches, "draw", interrupting)
    with StopRequest() as stop:
        result, folder = run(tiny_config, cube_scene, stop=stop)
    assert stop.exit_code == 128 + number
    assert (result.step, result.evaluation) == (16, None)
    assert (folder.checkpoints / "step_00000016.json").exists()
    monkeypatch.setattr(RayBatches, "draw", draw)
    assert train(tiny_config, cube_scene, folder, CPU, resume=True).step == 40


def test_signal_handlers_are_put_back():
    """After the run, and after the first signal, Ctrl-C acts as before."""
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert signal.getsignal(signal.SIGINT) != before and not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop() and signal.getsignal(signal.SIGINT) == before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_loss_that_is_not_finite_stops_the_run(cube_scene, tiny_config, monkeypatch):
    """No carrying on where going back does not help, no NaN in a checkpoint; the message says where to read on."""
    loss = coarse_fine.photometric_loss
    monkeypatch.setattr(coarse_fine, "photometric_loss", lambda *args: loss(*args) * float("nan"))
    with pytest.raises(TrainingStoppedError, match=r"non-finite: The loss is nan .* after 3 rollbacks; .*SUMMARY.md"):
        run(tiny_config, cube_scene)


def test_learning_rate_by_hand():
    """Warm-up, then the factor over the given steps, or over the whole run by steps or by seconds."""
    config = TrainConfig(lr=1.0, lr_decay=0.01, warmup_steps=1, steps=100, max_seconds=50.0)
    assert learning_rate(config, 0, 0.0) == 0.5
    assert learning_rate(config, 9, part_done(config, 50, 10.0)) == pytest.approx(0.1)
    assert learning_rate(config, 9, part_done(config, 50, 50.0)) == pytest.approx(0.01)
    steps = dataclasses.replace(config, lr_decay_steps=200)
    assert learning_rate(steps, 100, 0.9) == pytest.approx(0.1)
    assert part_done(config, 10, 25.0) == 0.5 and part_done(config, 1000, 0.0) == 1.0


@pytest.mark.parametrize("background", ["white", "black", "random"])
def test_batches(cube_scene, tiny_config, background):
    """Rays that hit the box, truth over the batch's own background, the same for a step whenever it is
    drawn."""
    box = torch.tensor([[-0.8] * 3, [0.8] * 3])
    sampler = Sampler(8, 8, cube_scene.near, cube_scene.far)
    batches = RayBatches(
        cube_scene.splits["train"],
        box,
        near=sampler.near,
        far=sampler.far,
        background=background,
        seed=5,
        device=CPU,
    )
    batch = batches.draw(3, 32)
    batches.draw(4, 32)
    assert all(torch.equal(mine, its) for mine, its in zip(batch[:-1], batches.draw(3, 32)[:-1], strict=True))
    assert not torch.equal(batch.truth, batches.draw(4, 32).truth)
    assert all(tensor.shape == (32, 3) for tensor in batch[:4]) and batch.alpha.shape == (32, 1)
    assert intersect_rays(batch.rays_o, batch.rays_d, box).hits.all()
    empty = (batch.truth == batch.background).all(-1)
    assert 0 < int(empty.sum()) < 32  # some pixels are transparent: they show the background exactly
    colors = {tuple(color) for color in batch.background.tolist()}
    assert len(colors) == (32 if background == "random" else 1)
    assert background == "random" or colors == {(float(background == "white"),) * 3}
    parts = list(batch.split(10))
    assert [len(part.truth) for part in parts] == [10, 10, 10, 2]
    assert torch.equal(torch.cat([part.rays_d for part in parts]), batch.rays_d)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_lost_network_is_neither_measured_nor_saved(cube_scene, tiny_config, monkeypatch, interrupted):
    """Also where the loss goes bad in the last steps, between two log lines, or before Ctrl-C."""
    loss = coarse_fine.photometric_loss
    monkeypatch.setattr(coarse_fine, "photometric_loss", lambda *args: loss(*args) * float("inf"))
    config = dataclasses.replace(tiny_config, steps=7, watchdog="stop")
    stop = StopRequest()
    draw = RayBatches.draw

    def drawing(self, step, rays):
        stop.signal = signal.SIGINT if interrupted and step == 6 else None
        return draw(self, step, rays)

    monkeypatch.setattr(RayBatches, "draw", drawing)
    with pytest.raises(TrainingStoppedError, match=r"is (inf|nan) within the steps before 7: "):
        run(config, cube_scene, stop=stop)
    assert {p.name[:13] for p in (RunFolder(Path(config.out)).checkpoints).iterdir()} == {"step_00000000"}
