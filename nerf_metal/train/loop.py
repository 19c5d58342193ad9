"""Training, from top to bottom.

Time: ``train_seconds`` runs while steps run, and stands still for evaluation, pictures and checkpoints.
Chance: what a step draws depends on the seed and the step alone, so a resumed run draws what an unbroken one
    would, and a run that was rolled back draws again what it drew.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nerf_metal import report
from nerf_metal.data.scene import Scene, spread
from nerf_metal.models import Method
from nerf_metal.train import health, metrics
from nerf_metal.train.evaluation import PICTURE_VIEWS, Evaluation, evaluate
from nerf_metal.train.interrupt import StopRequest
from nerf_metal.train.observer import Observer
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.progress import Progress
from nerf_metal.train.recovery import Recovery, TrainingStoppedError
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.train.run_state import RunState
from nerf_metal.train.statistics import LogLine
from nerf_metal.train.watchdog import Line
from nerf_metal.util.text import clock

LOG_EVERY_STEPS = 20
"""Steps of a line in ``metrics.jsonl``: reading the loss waits for the device, so not every step."""


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
    observers: Sequence[Observer] = (),
) -> TrainResult:
    """Train on a scene and fill the run folder.

    Args:
        config: the options.
        scene: with a train and a test split.
        folder: of the run, as :meth:`RunFolder.create` or :meth:`RunFolder.open` gives it.
        device: where to train.
        resume: go on from the folder's last checkpoint.
        stop: asked after each step; a stopped run writes a checkpoint and is not evaluated.
        observers: told of every line and every step; whoever made them closes them.

    Raises:
        InputError: the run cannot be resumed, or ``max_memory`` is too small.
        TrainingStoppedError: the watchdog found a fault and its policy is to stop, or too many rollbacks did not help;
            or the folder cannot be written. Checkpoints up to the last good one are there.
    """
    try:
        state = RunState(config, scene, folder, device, resume=resume, observers=observers)
        progress = Progress(quiet=config.quiet, done=state.done)
        try:
            result = _Training(state, device, progress, stop or StopRequest()).run()
        except TrainingStoppedError:
            with contextlib.suppress(OSError):  # why it stopped matters more
                report.write_report(folder)
            raise
        finally:
            progress.close()
        report.write_report(folder)
    except OSError as error:
        what = f"{error.strerror or error} ({error.filename or folder.path})"
        raise TrainingStoppedError(
            f"[train] the run folder must be writable, got {what}; "
            f"make room, then go on with: nerf-metal train --resume {folder.path}"
        ) from error
    return result


class _Training:
    """The loop: step, record, evaluate, save; and what the watchdog says to it."""

    def __init__(self, state: RunState, device: torch.device, progress: Progress, stop: StopRequest) -> None:
        self.state, self.device, self.progress, self.stop = state, device, progress, stop
        self.recovery = Recovery(state, progress)
        self.line: LogLine | None = None  # the last one
        self.line_seconds = state.watch.seconds
        self.evaluation: Evaluation | None = None
        self.next_eval = self.next_checkpoint = math.inf

    def run(self) -> TrainResult:
        """Until the end, or until asked to stop."""
        state, config = self.state, self.state.config
        for note in state.notes:
            self.progress.say(f"note: {note}")
        self.recovery.test_gradients()
        self.next_eval = self._after(config.eval_every_seconds)
        if state.step == 0:
            self._save()  # something to go back to
        ended = False
        while not ended and not self.stop():
            if state.done < 1.0:
                self._advance()
                for observer in state.observers:
                    observer.after_step(state.method)
            else:
                ended = self._measure()  # a rollback goes on, as far as there are steps and seconds left
        if self.stop():
            self.evaluation = None
            if self.recovery.check_finite():
                self._save()
        return TrainResult(state.step, state.watch.seconds, self.evaluation, state.method)

    def _advance(self) -> None:
        """One step, and what is due after it: evaluations and checkpoints come right behind a line that the watchdog
        has seen, so that nothing is saved as good that went bad since the last one."""
        state, config = self.state, self.state.config
        lr = learning_rate(config, state.step, state.done) * state.lr_scale
        step = state.step + 1
        evaluates = state.watch.seconds >= self.next_eval or step % (config.report_every * config.steps_per_epoch) == 0
        saves = state.watch.seconds >= self.next_checkpoint
        ends_line = step % LOG_EVERY_STEPS == 0 or evaluates or saves or step == config.step_limit
        with state.watch:
            state.log.add(state.method.train_step(state.step, lr, measure=ends_line))
            state.step = step
            # Reading the sums waits for the device: inside the watch, so that its seconds are true ones.
            line = state.log.read() if ends_line else None
            lost_moments = state.moments.lost(line.steps) if line else 0.0
        if line is None or not self._record(line, lr, lost_moments) or state.done >= 1.0:
            return
        if evaluates:
            self._measure()
        elif saves and self.recovery.check_finite():
            self._save()

    def _record(self, line: LogLine, lr: float, lost_moments: float) -> bool:
        """Write and show a line, and let the watchdog see it; False where it led to a rollback."""
        state = self.state
        seconds, self.line_seconds = max(state.watch.seconds - self.line_seconds, 1e-9), state.watch.seconds
        self.line = line
        seen = {name: getattr(line, name) for name in ("loss", "mse", "blank_mse", "grad_norm")}
        density = {name: getattr(line, name) for name in ("empty_rays", "opaque_rays", "alpha")}
        faults = state.watchdog.line(Line(step=state.step, **seen, **density, lost_moments=lost_moments))
        if state.step - line.steps < state.config.precrop_steps <= state.step:
            state.watchdog.forget_errors()  # the next line's rays are of another kind
        if not any(fault.lost for fault in faults):  # JSON has no such numbers; the fault's own line tells
            speeds = {
                "rays_per_second": round(line.rays / seconds, 1),
                "samples_per_second": round(line.samples / seconds, 1),
            }
            rounded = {name: round(value, 4) for name, value in density.items()}
            state.append("train", **seen, lr=lr, **rounded, **speeds)
            self.progress.update(
                done=state.done,
                step=state.step,
                loss=line.loss,
                psnr=metrics.psnr(line.mse),
                rays_per_second=line.rays / seconds,
                seconds_left=state.watch.seconds * (1.0 - state.done) / max(state.done, 1e-9),
            )
        if not faults and state.watchdog.good:
            self.recovery.over()
        return all(self.recovery.handle(fault) for fault in faults)

    def _measure(self) -> bool:
        """Evaluate, record, draw and save; the watch stands still. False where it led to a rollback."""
        state, config, test_split = self.state, self.state.config, self.state.scene.splits["test"]
        if not self.recovery.check_finite():
            return False
        views = spread(len(test_split.names), config.eval_views)
        result = evaluate(
            state.method.render, test_split, views, background=config.background, device=self.device, stop=self.stop
        )
        if result is None:
            return True
        fault = state.watchdog.evaluated(state.step, result.psnr, result.blank_psnr)
        if fault is None or not fault.lost:
            scores = {name: getattr(result, name) for name in ("mse", "psnr", "ssim", "blank_psnr")}
            state.append("eval", split=test_split.name, views=len(views), **scores)
            state.append("health", **self._health())
            pictures = [(view.prediction, view.truth) for view in result.views[:PICTURE_VIEWS]]
            state.folder.save_quick_render(state.epoch, pictures)
            self.progress.say(f"eval  step {state.step}  {clock(state.watch.seconds)}  {result.line()}")
            self.evaluation = result
        self.next_eval = self._after(config.eval_every_seconds)
        if fault is not None and not self.recovery.handle(fault):
            return False
        self._save(result.psnr)
        return True

    def _health(self) -> dict[str, object]:
        """Norms by layer group, and what the last line said of the density."""
        method, optimizer = self.state.method, self.state.optimizer
        weights, updates = health.weight_norms(method.groups), health.update_norms(method.groups, optimizer)
        columns = zip(method.grad_norms.tolist(), weights.tolist(), (updates / weights).tolist(), strict=True)
        names = ("grad_norm", "weight_norm", "update_ratio")
        groups = {
            group: {name: x for name, x in zip(names, row, strict=True) if math.isfinite(x)}  # JSON has no infinity
            for group, row in zip(method.groups, columns, strict=True)
        }
        density = {name: self.line and round(getattr(self.line, name), 4) for name in ("empty_rays", "opaque_rays")}
        return {"lr": optimizer.param_groups[0]["lr"], **density, "groups": groups}

    def _save(self, psnr: float | None = None) -> None:
        """Write a checkpoint; where that fails, those before are as they were and the run goes on."""
        try:
            self.state.save(psnr)
            self.recovery.saved()
        except OSError as error:
            self.recovery.not_saved(error)
        self.next_checkpoint = self._after(self.state.config.checkpoint_every_seconds)

    def _after(self, seconds: float | None) -> float:
        """The watch in so many seconds."""
        return math.inf if seconds is None else self.state.watch.seconds + seconds
