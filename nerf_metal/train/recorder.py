"""The work between the steps: lines of the record, evaluations, checkpoints and the calls of the watchdog."""

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
    """The recorder of one run: it writes lines, evaluates and saves. Faults go to :class:`Recovery`.

    Attributes:
        evaluation: last evaluation; None before the first one and after an interruption.

    Args:
        run: training run to record. A rollback changes it.
        progress: display that receives the messages.
        stop: request that is checked before each view of an evaluation.
    """

    def __init__(self, run: TrainingRun, progress: Progress, stop: StopRequest) -> None:
        """Start with an empty record."""
        self._run, self._progress, self._stop = run, progress, stop
        self._recovery = Recovery(run, progress)
        self.evaluation: Evaluation | None = None

    def begin(self) -> None:
        """Print the notes of the run, test its gradients, and save the first checkpoint of a new run.

        Raises:
            TrainingStoppedError: the device computes wrong gradients.
        """
        for note in self._run.notes:
            self._progress.say(f"note: {note}")
        self._recovery.check_gradients()
        if self._run.step == 0:
            self.save()

    def record(self, line: TrainLine) -> bool:
        """Write and show a line of training, and check it with the watchdog.

        Returns:
            False if the line led to a rollback.

        Raises:
            TrainingStoppedError: the watchdog stopped the run.
        """
        run = self._run
        faults = run.watchdog.line(line)
        if run.step - line.over_steps < run.config.precrop_steps <= run.step:
            run.watchdog.forget_errors()  # the next line has rays of whole pictures
        if not any(fault.lost for fault in faults):  # JSON has no such numbers, and the line of the fault names them
            run.record(line)
            left = run.stopwatch.seconds * (1.0 - run.done) / max(run.done, 1e-9)
            self._progress.update(line, done=run.done, psnr=metrics.psnr(line.mse), seconds_left=left)
        if not faults and run.watchdog.good:
            self._recovery.over()
        return all(self._recovery.handle(fault) for fault in faults)

    def evaluate(self) -> bool:
        """Evaluate the test views, write the scores and the quick render, and save a checkpoint.

        Returns:
            False if the evaluation led to a rollback.

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
        """Write a checkpoint if all weights are finite.

        If it cannot be written, the earlier checkpoints are unchanged and the run continues.
        """
        if self._run.step == 0 or self._recovery.check_finite():
            self._write(None)

    def interrupted(self) -> None:
        """Save a checkpoint after an interruption, and forget the last evaluation, which belongs to earlier weights."""
        self.evaluation = None
        self.save()

    def _health(self) -> HealthLine:
        """Return the norms by layer group, with the fractions of empty and opaque rays of the last line."""
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
