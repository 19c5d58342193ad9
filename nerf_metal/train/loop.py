"""The training loop.

The stopwatch runs during steps and stands still during evaluation, pictures and checkpoints. The random numbers of a
step depend on the seed and the step alone. So a resumed run draws the same numbers as a run without a break, and a run
that was rolled back draws the same numbers again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nerf_metal.data.scene import Scene
from nerf_metal.models import Model
from nerf_metal.train.errors import folder_errors
from nerf_metal.train.evaluation import Evaluation
from nerf_metal.train.interrupt import StopRequest
from nerf_metal.train.observer import Observer
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.progress import Progress
from nerf_metal.train.recorder import Recorder
from nerf_metal.train.run import TrainingRun
from nerf_metal.train.run_folder import RunFolder


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        step: number of steps done since the start of the run.
        train_seconds: seconds of training since the start of the run.
        evaluation: last evaluation; None if the run was interrupted.
        model: trained model, with the averaged weights if the run has them.
    """

    step: int
    train_seconds: float
    evaluation: Evaluation | None
    model: Model


def train(
    config: TrainConfig,
    scene: Scene,
    folder: RunFolder,
    device: torch.device,
    *,
    resume: bool = False,
    stop: StopRequest | None = None,
    observers: Sequence[Observer] = (),
) -> TrainResult:
    """Train on a scene and fill the run folder.

    Args:
        config: options of the run.
        scene: scene with a train split and a test split.
        folder: run folder that :meth:`RunFolder.create` or :meth:`RunFolder.open` returned.
        device: device to train on.
        resume: continue from the last checkpoint of the folder.
        stop: request that is checked after each step. A stopped run writes a checkpoint and is not evaluated.
        observers: observers that receive every line and every step. The caller closes them.

    Raises:
        InputError: the run cannot be resumed, or ``max_memory`` is too small.
        TrainingStoppedError: the watchdog found a fault whose policy is to stop, or the largest number of rollbacks was
            reached, or the folder cannot be written. The last good checkpoint still exists.
    """
    stop = stop or StopRequest()
    with folder_errors(folder):
        run = TrainingRun(config, scene, folder, device, resume=resume, observers=observers)
        with Progress(quiet=config.quiet, done=run.done) as progress:
            return _loop(run, Recorder(run, progress, stop), stop)


def _loop(run: TrainingRun, recorder: Recorder, stop: StopRequest) -> TrainResult:
    """Step, record, evaluate and save until the run is done or stopped."""
    recorder.begin()
    ended = False
    while not ended and not stop():
        if run.done >= 1.0:
            ended = recorder.evaluate()  # after a rollback, steps or seconds may be left
            continue
        due = run.schedule.due(run.step + 1, run.stopwatch.seconds)
        with run.stopwatch:
            _step(run, measure=due.line)
            line = run.read_line() if due.line else None  # waits for the device, so that the time is correct
        if line is not None and recorder.record(run.stamp(line)) and run.done < 1.0:
            if due.evaluation:
                recorder.evaluate()
            elif due.checkpoint:
                recorder.save()
        for observer in run.observers:
            observer.after_step(run.average.model)
    if stop():
        recorder.interrupted()
    return TrainResult(run.step, run.stopwatch.seconds, recorder.evaluation, run.average.model)


def _step(run: TrainingRun, *, measure: bool) -> None:
    """Learn from one batch. All that it made is freed before the next one: its memory is used again."""
    model = run.model
    run.set_learning_rate()
    run.clear_gradients()
    batch = run.batches.draw(run.step, model.batch_rays)
    losses = []
    for part in batch.split(model.part_rays):  # one part if the whole batch fits into memory
        found = model.loss(part, run.step)
        share = len(part.truth) / len(batch.truth) if len(batch.truth) else 1.0
        losses.append((found, share))
        if found.loss.requires_grad:  # it has no gradient if no ray met anything
            (found.loss if share == 1.0 else found.loss * share).backward()
    if any(found.loss.requires_grad for found, _ in losses):
        run.clip_gradients(measure=measure)
        run.optimizer.step()
    run.average.update(run.step)
    run.statistics.add(losses, batch, run.grad_norm)
    run.step += 1
