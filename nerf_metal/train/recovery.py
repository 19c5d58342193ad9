"""What is done about a fault: a warning, a way back to the last good checkpoint, or the end of the run."""

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
"""Faults that another start does not mend: rollback means warn."""


class Recovery:
    """Handles the faults of one run as its ``--watchdog`` says.

    Args:
        run: a rollback changes it.
        progress: where a person is told.
    """

    def __init__(self, run: TrainingRun, progress: Progress) -> None:
        """Nothing has happened yet."""
        self._run, self._progress = run, progress
        self._policies = watchdog_policies(run.config.watchdog)
        self._warned: set[str] = set()

    def handle(self, fault: Fault) -> bool:
        """Do what the fault's policy says; False where that was a rollback.

        A network that is not finite cannot come back: warn stops there too. A warning is given once, until the next
        rollback or until all was well.

        Raises:
            TrainingStoppedError: that was to stop, or there is no rollback left.
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
        """Write down and say what was found, once."""
        if fault.name not in self._warned:
            self._report(fault, "warn")
        self._warned.add(fault.name)

    def over(self) -> None:
        """All is well with what is learnt: the next fault of it is news."""
        self._warned.intersection_update(NOTHING_TO_GO_BACK_TO)

    def saved(self) -> None:
        """A checkpoint was written: the next that is not is news."""
        self._warned.discard("checkpoint-not-saved")

    def not_saved(self, error: OSError) -> None:
        """A checkpoint could not be written; those before are as they were, and the run goes on."""
        reason = error.strerror or str(error)
        sentence = f"No checkpoint could be written ({reason}); those before are whole."
        self.handle(Fault("checkpoint-not-saved", sentence, {"error": reason}))

    def check_finite(self) -> bool:
        """Never measure or save a network that is lost: False where that led to a rollback."""
        run = self._run
        with run.stopwatch:
            total = run.statistics.total()  # waits for the device: what is still running is training
        if not math.isfinite(total):
            sentence = f"The loss or the gradient is {total} within the steps before {run.step}: the weights are lost."
            return self.handle(Fault("non-finite", sentence, {"value": str(total)}))
        where = self._not_finite()
        if where is not None:
            sentence = f"After step {run.step} {where} is not finite: the weights are lost."
            return self.handle(Fault("non-finite", sentence))
        return True

    def check_gradients(self) -> None:
        """Check that torch computes right weight gradients here, at this run's shapes. Where only uncut calls are
        wrong, the run continues with cut ones.

        Raises:
            TrainingStoppedError: nothing is right, and the policy is not to warn.
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
        """Name of a weight that is not finite."""
        return health.not_finite(self._run.model) or health.not_finite(self._run.average.model)

    def _stop(self, fault: Fault) -> NoReturn:
        run = self._run
        self._report(fault, "stop")
        tried = f" after {run.rollbacks} rollbacks" if run.rollbacks else ""
        raise TrainingStoppedError(
            f"[watchdog] {fault.name}: {fault.sentence} Stopped{tried}; {run.folder.summary} says what to change"
        )

    def _roll_back(self, fault: Fault) -> None:
        """As in the last good checkpoint, at a lower rate."""
        run = self._run
        try:
            checkpoint = find_checkpoint(run.folder.checkpoints, "good", avoid=run.rejected)
        except InputError as error:  # somebody has deleted or damaged all of them
            self._progress.say(f"watchdog  no checkpoint to go back to: {error}")
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
        """Write down and say what was found and what is done."""
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
        then = "" if to_step is None else f" Back to step {to_step} at {run.lr_scale:g} of the learning rate."
        text = f"watchdog  step {run.step}  {fault.name}: {fault.sentence}{then}"
        self._progress.say("\n".join(wrap(text, rest="  ")))
