"""Recovery from a fault: warn, roll back to the last good checkpoint, or stop the run."""

from __future__ import annotations

import math
from typing import NoReturn

from nerf_metal.train import health
from nerf_metal.train.checkpoint import find_checkpoint
from nerf_metal.train.errors import TrainingStoppedError
from nerf_metal.train.lines import SelfTestLine, WatchdogLine
from nerf_metal.train.options import watchdog_policies
from nerf_metal.train.progress import Progress
from nerf_metal.train.run import TrainingRun
from nerf_metal.train.watchdog import Fault
from nerf_metal.util.errors import InputError
from nerf_metal.util.text import wrap

NOTHING_TO_GO_BACK_TO = ("checkpoint-not-saved", "wrong-matmul")
"""Faults that a rollback cannot correct. The policy rollback means warn for them."""


class Recovery:
    """The recovery from faults of one run, by the policies of its ``--watchdog``.

    Args:
        run: training run. A rollback changes it.
        progress: display that receives the messages.
    """

    def __init__(self, run: TrainingRun, progress: Progress) -> None:
        """Start without warnings."""
        self._run, self._progress = run, progress
        self._policies = watchdog_policies(run.config.watchdog)
        self._warned: set[str] = set()

    def handle(self, fault: Fault) -> bool:
        """Apply the policy of a fault.

        A network that is not finite cannot recover, so the policy warn stops the run too. A warning is given once. It
        may come again after a rollback, or after a line without faults.

        Returns:
            False if the run was rolled back.

        Raises:
            TrainingStoppedError: the policy is to stop, or there is no rollback left.
        """
        run, policy = self._run, self._policies[fault.name]
        if fault.lost and (where := self._not_finite()):
            fault = Fault(fault.name, fault.sentence, {**fault.evidence, "first": where})
        if (policy == "warn" and not fault.lost) or (policy == "rollback" and fault.name in NOTHING_TO_GO_BACK_TO):
            self.warn(fault)
            return True
        if policy == "rollback" and run.rollbacks < run.config.max_rollbacks:
            self._roll_back(fault)
            return False
        self._stop(fault)

    def warn(self, fault: Fault) -> None:
        """Record and print a fault, unless it was reported already."""
        if fault.name not in self._warned:
            self._report(fault, "warn")
        self._warned.add(fault.name)

    def over(self) -> None:
        """Forget the warnings about what the run learns. Call this after a line without faults."""
        self._warned.intersection_update(NOTHING_TO_GO_BACK_TO)

    def saved(self) -> None:
        """Forget the warning about a checkpoint. Call this after a checkpoint was written."""
        self._warned.discard("checkpoint-not-saved")

    def not_saved(self, error: OSError) -> None:
        """Handle an error that prevented the writing of a checkpoint. The earlier checkpoints are unchanged."""
        reason = error.strerror or str(error)
        sentence = f"The checkpoint could not be written ({reason}). The earlier checkpoints are undamaged."
        self.handle(Fault("checkpoint-not-saved", sentence, {"error": reason}))

    def check_finite(self) -> bool:
        """Check that losses, gradients and weights are finite before they are evaluated or saved.

        Returns:
            False if they are not finite and the run was rolled back.

        Raises:
            TrainingStoppedError: they are not finite, and the run was not rolled back.
        """
        run = self._run
        with run.stopwatch:
            total = run.statistics.total()  # waits for the device: steps that still run count as training
        if not math.isfinite(total):
            sentence = (
                f"The loss or the gradient is {total} within the steps before {run.step}: the weights cannot be used."
            )
            return self.handle(Fault("non-finite", sentence, {"value": str(total)}))
        where = self._not_finite()
        if where is not None:
            sentence = f"After step {run.step}, {where} is not finite: the weights cannot be used."
            return self.handle(Fault("non-finite", sentence))
        return True

    def check_gradients(self) -> None:
        """Check that torch computes correct weight gradients on this device, at the shapes of this run.

        If only large calls are wrong, the run continues with smaller ones.

        Raises:
            TrainingStoppedError: smaller calls are wrong too, and the policy is not to warn.
        """
        found = self._run.self_test
        if found is None:
            return
        tested, untested = len(found.tested), len(found.untested)
        self._run.record(
            SelfTestLine(sentence=found.sentence(), seconds=found.seconds, tested=tested, untested=untested)
        )
        if found.rows_wrong is None:
            return
        fault = Fault("wrong-matmul", found.sentence(), found.evidence())
        if found.usable or self._policies[fault.name] == "warn":
            self.warn(fault)
        else:
            self._stop(fault)

    def _not_finite(self) -> str | None:
        """Return the name of a weight that is not finite, or None."""
        return health.not_finite(self._run.model) or health.not_finite(self._run.average.model)

    def _stop(self, fault: Fault) -> NoReturn:
        run = self._run
        self._report(fault, "stop")
        tried = f" after {run.rollbacks} rollbacks" if run.rollbacks else ""
        raise TrainingStoppedError(
            f"[watchdog] {fault.name}: {fault.sentence} The run was stopped{tried}; "
            f"read {run.folder.summary} for what to change"
        )

    def _roll_back(self, fault: Fault) -> None:
        """Return to the last good checkpoint, with a lower learning rate."""
        run = self._run
        try:
            checkpoint = find_checkpoint(run.folder.checkpoints, "good", avoid=run.rejected)
        except InputError as error:  # somebody has deleted or damaged all of them
            self._progress.say(f"watchdog  There is no checkpoint to return to: {error}")
            self._stop(fault)
        run.lr_scale *= run.config.rollback_lr
        run.rollbacks += 1
        self._report(fault, "rollback", to_step=checkpoint.step, lr_scale=run.lr_scale)
        for note in checkpoint.notes:
            self._progress.say(f"note: {note}")
        run.restore(checkpoint)
        run.rejected.append(checkpoint.path.name)
        self._warned.clear()
        try:  # so that a run that is killed now remembers its rollback
            copy = run.save(checkpoint.psnr, good=checkpoint.good)
            run.rejected.append(copy.with_suffix(".json").name)
        except OSError as error:
            self.not_saved(error)

    def _report(self, fault: Fault, action: str, *, to_step: int | None = None, lr_scale: float | None = None) -> None:
        """Record and print a fault and the action."""
        run = self._run
        run.record(
            WatchdogLine(
                name=fault.name,
                sentence=fault.sentence,
                evidence=dict(fault.evidence),
                policy=self._policies[fault.name],
                action=action,
                to_step=to_step,
                lr_scale=lr_scale,
            )
        )
        rate = f"{run.lr_scale:g} times the scheduled learning rate"
        then = "" if to_step is None else f" The run returns to step {to_step} with {rate}."
        text = f"watchdog  step {run.step}  {fault.name}: {fault.sentence}{then}"
        self._progress.say("\n".join(wrap(text, rest="  ")))
