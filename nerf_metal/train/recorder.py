"""What comes between the steps: lines of the record, evaluations, checkpoints, and what the watchdog says to them."""

from __future__ import annotations

import math

from nerf_metal.data.scene import spread
from nerf_metal.train import health, metrics
from nerf_metal.train.evaluation import PICTURE_VIEWS, Evaluation, evaluate
from nerf_metal.train.interrupt import StopRequest
from nerf_metal.train.lines import EvalLine, HealthLine, TrainLine
from nerf_metal.train.progress import Progress
from nerf_metal.train.recovery import Recovery
from nerf_metal.train.run import TrainingRun
from nerf_metal.util.text import clock


class Recorder:
    """Records, evaluates and saves one run. A fault that the watchdog finds goes to :class:`Recovery`.

    Attributes:
        evaluation: the last one; None before the first, and after an interruption.

    Args:
        run: a rollback changes it.
        progress: where a person is told.
        stop: asked before each view of an evaluation.
    """

    def __init__(self, run: TrainingRun, progress: Progress, stop: StopRequest) -> None:
        """Nothing is recorded yet."""
        self._run, self._progress, self._stop = run, progress, stop
        self._recovery = Recovery(run, progress)
        self.evaluation: Evaluation | None = None

    def begin(self) -> None:
        """Say what is to be said of the run, test its gradients, and save a checkpoint to go back to.

        Raises:
            TrainingStoppedError: the device computes wrong gradients.
        """
        for note in self._run.notes:
            self._progress.say(f"note: {note}")
        self._recovery.check_gradients()
        if self._run.step == 0:
            self.save()

    def record(self, line: TrainLine) -> bool:
        """Write and show a line of training, and let the watchdog see it; False if it led to a rollback.

        Raises:
            TrainingStoppedError: the watchdog stopped the run.
        """
        run = self._run
        faults = run.watchdog.line(line)
        if run.step - line.over_steps < run.config.precrop_steps <= run.step:
            run.watchdog.forget_errors()  # the next line's rays are of another kind
        if not any(fault.lost for fault in faults):  # JSON has no such numbers; the fault's own line tells
            run.record(line)
            left = run.stopwatch.seconds * (1.0 - run.done) / max(run.done, 1e-9)
            self._progress.update(line, done=run.done, psnr=metrics.psnr(line.mse), seconds_left=left)
        if not faults and run.watchdog.good:
            self._recovery.over()
        return all(self._recovery.handle(fault) for fault in faults)

    def evaluate(self) -> bool:
        """Evaluate the test views, record, draw and save; False if that led to a rollback.

        Raises:
            TrainingStoppedError: the watchdog stopped the run.
        """
        run, config, split = self._run, self._run.config, self._run.scene.splits["test"]
        if not self._recovery.check_finite():
            return False
        views = spread(len(split.names), config.eval_views)
        model = run.average.model
        result = evaluate(
            model.render, split, views, background=config.background, device=model.box.device, stop=self._stop
        )
        if result is None:
            return True
        fault = run.watchdog.evaluated(run.step, result.psnr, result.blank_psnr)
        if fault is None or not fault.lost:
            scores = {name: getattr(result, name) for name in ("mse", "psnr", "ssim", "blank_psnr")}
            run.record(EvalLine(split=split.name, views=len(views), **scores))
            run.record(self._health())
            pictures = [(view.prediction, view.truth) for view in result.views[:PICTURE_VIEWS]]
            run.folder.save_quick_render(run.epoch, pictures)
            self._progress.say(f"eval  step {run.step}  {clock(run.stopwatch.seconds)}  {result.line()}")
            self.evaluation = result
        run.schedule.evaluated(run.stopwatch.seconds)
        if fault is not None and not self._recovery.handle(fault):
            return False
        self._write(result.psnr)
        return True

    def save(self) -> None:
        """Write a checkpoint of a network that is not lost. If that fails, the checkpoints before are as they were and
        the run continues."""
        if self._run.step == 0 or self._recovery.check_finite():
            self._write(None)

    def interrupted(self) -> None:
        """Save what there is, and forget the evaluation: it is not of these weights."""
        self.evaluation = None
        if self._recovery.check_finite():
            self._write(None)

    def _health(self) -> HealthLine:
        """Norms by layer group, and what the last line said of the density."""
        run = self._run
        weights, updates = health.weight_norms(run.groups), health.update_norms(run.groups, run.optimizer)
        columns = zip(run.grad_norms.tolist(), weights.tolist(), (updates / weights).tolist(), strict=True)
        names = ("grad_norm", "weight_norm", "update_ratio")
        groups = {
            group: {name: x for name, x in zip(names, row, strict=True) if math.isfinite(x)}  # JSON has no infinity
            for group, row in zip(run.groups, columns, strict=True)
        }
        empty, opaque = (run.line.empty_rays, run.line.opaque_rays) if run.line else (None, None)
        return HealthLine(lr=run.lr, empty_rays=empty, opaque_rays=opaque, groups=groups)

    def _write(self, psnr: float | None) -> None:
        try:
            self._run.save(psnr)
            self._recovery.saved()
        except OSError as error:
            self._recovery.not_saved(error)
        self._run.schedule.saved(self._run.stopwatch.seconds)
