"""What is done about a fault: a warning, a way back to the last good checkpoint, or the end of the run."""

from __future__ import annotations

import math
from typing import NoReturn

from nerf_metal.train import health
from nerf_metal.train.checkpoint import find_checkpoint
from nerf_metal.train.options import watchdog_policies
from nerf_metal.train.progress import Progress
from nerf_metal.train.run_state import RunState
from nerf_metal.train.watchdog import Fault
from nerf_metal.util.errors import InputError
from nerf_metal.util.text import wrap

NOTHING_TO_GO_BACK_TO = ("checkpoint-not-saved", "wrong-matmul")
"""Faults that another start does not mend: rollback means warn."""


class TrainingStoppedError(RuntimeError):
    """The watchdog has stopped the run, or its folder cannot be written any more. One line, for a person."""


class Recovery:
    """Handles the faults of one run as its ``--watchdog`` says.

    Args:
        state: of the run; a rollback changes it.
        progress: where a person is told.
    """

    def __init__(self, state: RunState, progress: Progress) -> None:
        """Nothing has happened yet."""
        self._state, self._progress = state, progress
        self._policies = watchdog_policies(state.config.watchdog)
        self._warned: set[str] = set()

    def handle(self, fault: Fault) -> bool:
        """Do what the fault's policy says; False where that was a rollback.

        A network that is not finite cannot come back: warn stops there too. A warning is given once, until the next
        rollback or until all was well.

        Raises:
            TrainingStoppedError: that was to stop, or there is no rollback left.
        """
        state, policy = self._state, self._policies[fault.name]
        if fault.lost and (where := health.not_finite(state.method.module)):
            fault = Fault(fault.name, fault.sentence, {**fault.evidence, "first": where})
        if (policy == "warn" and not fault.lost) or (policy == "rollback" and fault.name in NOTHING_TO_GO_BACK_TO):
            self.warn(fault)
            return True
        if policy == "rollback" and state.rollbacks < state.config.max_rollbacks:
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
        state = self._state
        with state.watch:
            total = state.log.sum()  # waits for the device: what is still running is training
        if not math.isfinite(total):
            sentence = (
                f"The loss or the gradient is {total} within the steps before {state.step}: the weights are lost."
            )
            return self.handle(Fault("non-finite", sentence, {"value": str(total)}))
        where = health.not_finite(state.method.module)
        if where is not None:
            sentence = f"After step {state.step} {where} is not finite: the weights are lost."
            return self.handle(Fault("non-finite", sentence))
        return True

    def test_gradients(self) -> None:
        """Whether torch computes right weight gradients here, at this run's shapes; where only uncut calls are wrong,
        the run goes on with cut ones.

        Raises:
            TrainingStoppedError: nothing is right, and the policy is not to warn.
        """
        found = self._state.method.self_test()
        about = {"seconds": round(found.seconds, 3), "tested": len(found.tested), "untested": len(found.untested)}
        self._state.append("self_test", sentence=found.sentence(), **about)
        if found.rows_wrong is None:
            return
        fault = Fault("wrong-matmul", found.sentence(), found.evidence())
        if found.usable or self._policies[fault.name] == "warn":
            self.warn(fault)
        else:
            self._stop(fault)

    def _stop(self, fault: Fault) -> NoReturn:
        state = self._state
        self._report(fault, "stop")
        tried = f" after {state.rollbacks} rollbacks" if state.rollbacks else ""
        raise TrainingStoppedError(
            f"[watchdog] {fault.name}: {fault.sentence} Stopped{tried}; {state.folder.summary} says what to change"
        )

    def _roll_back(self, fault: Fault) -> None:
        """As in the last good checkpoint, at a lower rate."""
        state = self._state
        try:
            checkpoint = find_checkpoint(state.folder.checkpoints, "good", avoid=state.rejected)
        except InputError as error:  # somebody has deleted or damaged all of them
            self._progress.say(f"watchdog  no checkpoint to go back to: {error}")
            self._stop(fault)
        state.lr_scale *= state.config.rollback_lr
        state.rollbacks += 1
        self._report(fault, "rollback", to_step=checkpoint.step, lr_scale=state.lr_scale)
        for note in checkpoint.notes:
            self._progress.say(f"note: {note}")
        state.restore(checkpoint)
        state.rejected.append(checkpoint.path.name)
        self._warned.clear()
        try:  # so that a run that is killed now remembers its rollback
            copy = state.save(checkpoint.psnr, good=checkpoint.good)
            state.rejected.append(copy.with_suffix(".json").name)
        except OSError as error:
            self.not_saved(error)

    def _report(self, fault: Fault, action: str, **more: float) -> None:
        state = self._state
        state.append(
            "watchdog",
            name=fault.name,
            sentence=fault.sentence,
            evidence=dict(fault.evidence),
            policy=self._policies[fault.name],
            action=action,
            **more,
        )
        then = f" Back to step {more['to_step']} at {state.lr_scale:g} of the rate." if action == "rollback" else ""
        text = f"watchdog  step {state.step}  {fault.name}: {fault.sentence}{then}"
        self._progress.say("\n".join(wrap(text, rest="  ")))
