"""Training, from top to bottom.

Time: ``train_seconds`` runs while steps run, and stands still for evaluation, pictures and checkpoints.
Chance: what a step draws depends on the seed and the step alone, so a resumed run draws what an unbroken one
    would.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from nerf_metal import metrics, report
from nerf_metal.checkpoint import find_checkpoint, load_optimizer, load_weights, save_checkpoint
from nerf_metal.config import TrainConfig
from nerf_metal.data.scene import Scene, spread
from nerf_metal.errors import InputError
from nerf_metal.evaluate import Evaluation, evaluate
from nerf_metal.interrupt import StopRequest
from nerf_metal.methods import Method, Step, build_method
from nerf_metal.progress import Progress, clock
from nerf_metal.run_folder import RunFolder

LOG_EVERY_STEPS = 20
"""Steps of a line in ``metrics.jsonl``: reading the loss waits for the device, so not every step."""
PICTURE_VIEWS = 3
"""Views in a quick render: enough to see all sides, few enough to see at a glance."""


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: steps done since the run's start.
        train_seconds: seconds of training since the run's start.
        evaluation: the last one; None where the run was interrupted.
        method: what was trained.
    """

    step: int
    train_seconds: float
    evaluation: Evaluation | None
    method: Method


def part_done(config: TrainConfig, step: int, train_seconds: float) -> float:
    """How much of the run is done, in [0, 1]: by steps or by seconds, whichever is further."""
    by_steps = step / config.steps if config.steps else 0.0
    by_seconds = train_seconds / config.max_seconds if config.max_seconds else 0.0
    return min(1.0, max(by_steps, by_seconds))


def learning_rate(config: TrainConfig, step: int, done: float) -> float:
    """Exponential decay (Mildenhall et al. 2020, section 5.3) behind a linear warm-up.

    ``lr * decay^x`` where ``x`` is ``step / lr_decay_steps``, or ``done`` where the decay follows the whole
    run.
    """
    x = step / config.lr_decay_steps if config.lr_decay_steps else done
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return config.lr * warm * config.lr_decay**x


def train(
    config: TrainConfig,
    scene: Scene,
    folder: RunFolder,
    device: torch.device,
    *,
    resume: bool = False,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Train on a scene and fill the run folder.

    Args:
        config: the options.
        scene: with a train and a test split.
        folder: of the run, as :meth:`RunFolder.create` or :meth:`RunFolder.open` gives it.
        device: where to train.
        resume: go on from the folder's last checkpoint.
        stop: asked after each step; a stopped run writes a checkpoint and is not evaluated.

    Raises:
        InputError: the run cannot be resumed, or ``max_memory`` is too small.
        TrainingDivergedError: the loss is not finite any more.
    """
    stop = stop or StopRequest()
    train_split, test_split = scene.splits["train"], scene.splits["test"]

    method = build_method(config, scene.aabb, scene.near, scene.far)
    step, seconds_before = 0, 0.0
    checkpoint = find_checkpoint(folder.checkpoints) if resume else None
    if checkpoint is not None:
        load_weights(checkpoint, method.module)
        step, seconds_before = checkpoint.step, checkpoint.train_seconds
        if part_done(config, step, seconds_before) >= 1.0:
            raise InputError(
                f"[train] --resume must have something left to do, got a run of {step} steps and "
                f"{seconds_before:.0f} s; give a greater --steps or --max-seconds"
            )
        folder.cut_metrics(step)
        folder.write_config(config, scene.name)
    watch = _Watch(seconds_before)
    if checkpoint is None:
        with watch:
            method.measure(train_split)
    method.to(device)
    optimizer = method.prepare(train_split, sum(split.images.numel() for split in scene.splits.values()))
    if checkpoint is not None:
        load_optimizer(checkpoint, method.module, optimizer)

    progress = Progress(quiet=config.quiet, done=part_done(config, step, seconds_before))
    logged_seconds = watch.seconds
    next_eval = seconds_before + config.eval_every_seconds
    evaluated_step = -1
    evaluation: Evaluation | None = None
    log = _Log(device)

    def check_finite(loss: float) -> None:
        """Never carry on, measure or save with a network that is lost."""
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"[train] the loss must be finite, got {loss} before step {step}; resume from the last "
                f"checkpoint in {folder.checkpoints} with a smaller --lr, or set --clip-norm"
            )

    def measure() -> Evaluation | None:
        """Evaluate, record, draw and save; the watch stands still."""
        with watch:
            check_finite(log.loss())  # waits for the device: what is still running is training
        views = spread(len(test_split.names), config.eval_views)
        result = evaluate(method.render, test_split, views, background=config.background, device=device, stop=stop)
        if result is None:
            return None
        epoch = step // config.steps_per_epoch
        folder.append_metrics(
            event="eval",
            step=step,
            epoch=epoch,
            train_seconds=round(watch.seconds, 3),
            split=test_split.name,
            views=len(views),
            mse=result.mse,
            psnr=result.psnr,
            ssim=result.ssim,
            blank_psnr=result.blank_psnr,
        )
        folder.save_quick_render(epoch, [(view.prediction, view.truth) for view in result.views[:PICTURE_VIEWS]])
        save()
        progress.say(f"eval  step {step}  {clock(watch.seconds)}  {result.line()}")
        return result

    def save() -> None:
        check_finite(log.loss())
        save_checkpoint(
            folder.checkpoints,
            method.module,
            optimizer,
            config,
            step=step,
            train_seconds=watch.seconds,
            near=scene.near,
            far=scene.far,
        )

    try:
        while (done := part_done(config, step, watch.seconds)) < 1.0 and not stop():
            with watch:
                lr = learning_rate(config, step, done)
                log.add(method.train_step(step, lr))
                step += 1
                # Reading the sums waits for the device: inside the watch, so that its seconds are true ones.
                line = log.read() if step % LOG_EVERY_STEPS == 0 else None

            if line is not None:
                check_finite(line.loss)
                seconds = max(watch.seconds - logged_seconds, 1e-9)
                folder.append_metrics(
                    event="train",
                    step=step,
                    epoch=step // config.steps_per_epoch,
                    train_seconds=round(watch.seconds, 3),
                    loss=line.loss,
                    mse=line.mse,
                    lr=lr,
                    rays_per_second=round(line.rays / seconds, 1),
                    samples_per_second=round(line.samples / seconds, 1),
                )
                done = part_done(config, step, watch.seconds)
                progress.update(
                    done=done,
                    step=step,
                    loss=line.loss,
                    psnr=metrics.psnr(line.mse),
                    rays_per_second=line.rays / seconds,
                    seconds_left=watch.seconds * (1.0 - done) / max(done, 1e-9),
                )
                logged_seconds = watch.seconds
            if watch.seconds >= next_eval and part_done(config, step, watch.seconds) < 1.0:
                evaluation, evaluated_step = measure(), step
                next_eval = watch.seconds + config.eval_every_seconds

        if not stop() and evaluated_step != step:
            evaluation = measure()
        if stop():
            evaluation = None
            save()
    finally:
        progress.close()
    report.write_report(folder)
    return TrainResult(step, watch.seconds, evaluation, method)


@dataclass(frozen=True)
class _Line:
    """Means over the steps since the last line, and what they did together."""

    loss: float
    mse: float
    rays: int
    samples: int


class _Log:
    """Adds up steps on the device, which is waited for when they are read."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(2, device=device)
        self._steps = self._rays = self._samples = 0

    def add(self, step: Step) -> None:
        self._sums += torch.stack((step.loss, step.mse))
        self._steps, self._rays, self._samples = self._steps + 1, self._rays + step.rays, self._samples + step.samples

    def loss(self) -> float:
        """The mean so far, 0 without a step."""
        return float(self._sums[0]) / max(self._steps, 1)

    def read(self) -> _Line:
        """The line, and begin a new one."""
        loss, mse = (self._sums / self._steps).tolist()
        line = _Line(loss, mse, self._rays, self._samples)
        self._sums.zero_()
        self._steps = self._rays = self._samples = 0
        return line


class _Watch:
    """Adds up the seconds spent inside its ``with`` blocks."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start
