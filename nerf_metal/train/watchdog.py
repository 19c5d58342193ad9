"""The watchdog: it finds faults of a run from its recorded numbers and describes them in sentences.

It is pure arithmetic on a few numbers. The input is a line of training (every 20 steps) or an evaluation, and the
output is the list of faults, see :class:`Fault`. :mod:`nerf_metal.train.recovery` acts on the faults.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nerf_metal.train.lines import TrainLine

BETTER_DB = 0.5
"""Least margin in dB by which a picture must beat a blank picture. Another choice of views, or of the colour of the
blank picture, changes the margin by about half of this."""
SMOOTHING = 0.8
"""Fraction of the smoothed errors that each line keeps: an average over about five lines, 100 steps. With 256 rays in a
step, the error of a line scatters by 0.3 dB. A single outlier of five times the error is not yet a collapse."""
GOOD_DB = 1.0
"""Margin in dB below the best PSNR so far. A checkpoint within it is good: a rollback may return to it."""
FAULTY_LINES = 5
"""Number of lines in a row with dead or saturated density that count as a fault: 100 steps. A healthy run leaves such a
state earlier."""
DEAD_RAYS = 0.999
"""Fraction of empty (or opaque) rays that counts as all of them. A few rays may only graze the box."""
LEAST_ALPHA, MOST_ALPHA = 0.01, 0.95
"""Least mean alpha of a batch whose rays must not all be empty, and largest mean alpha of a batch whose rays must not
all be opaque. Photographs without alpha have a mean of 1, and their rays may all be opaque."""
EXPLODED = 100.0
"""Ratio of the gradient norm to the median of the earlier lines that counts as an explosion. It stays below 10 in
healthy runs."""
NORM_LINES, FEWEST_NORMS = 50, 10
"""Number of lines of that median, and the least number from which it is used."""
LOST_MOMENTS = 0.1
"""Fraction of Adam's second moments that fell faster than Adam allows from which the state counts as lost. It is 0 in a
healthy run."""


@dataclass(frozen=True)
class Fault:
    """A fault of a run.

    Attributes:
        name: name of the fault, one of :data:`nerf_metal.train.options.WATCHDOG_FAULTS`.
        sentence: description of the fault and its meaning, for a person.
        evidence: numbers that show the fault.
    """

    name: str
    sentence: str
    evidence: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def lost(self) -> bool:
        """Whether further training steps cannot correct the fault."""
        return self.name == "non-finite"


class Watchdog:
    """The watchdog of one run: it checks every line of training and every evaluation.

    Args:
        collapse_db: fall of the PSNR below its best that counts as a collapse, dB.
        plateau_steps: number of steps without being better than a blank picture that count as a plateau.
        warmup_steps: number of steps at the start that do not count towards a plateau.
    """

    def __init__(self, *, collapse_db: float, plateau_steps: int, warmup_steps: int = 0) -> None:
        """Start without any line or evaluation."""
        self._collapse_db, self._plateau_steps, self._warmup_steps = collapse_db, plateau_steps, warmup_steps
        self._best_psnr: float | None = None
        self._psnr: float | None = None
        self._mse: float | None = None
        self._blank_mse: float | None = None
        self._best_mse: float | None = None
        self._better_at = warmup_steps
        self._norms: deque[float] = deque(maxlen=NORM_LINES)
        self._in_a_row: dict[str, int] = {}

    @property
    def good(self) -> bool:
        """Whether a rollback may return to the present state: it is better than a blank picture and near the best."""
        if self._mse is None or self._blank_mse is None or self._best_mse is None:
            return False
        if self._psnr is not None and self._best_psnr is not None and self._psnr < self._best_psnr - GOOD_DB:
            return False
        near_best = _db(self._mse / self._best_mse) <= GOOD_DB
        return near_best and _db(self._blank_mse / self._mse) >= BETTER_DB and not any(self._in_a_row.values())

    def line(self, line: TrainLine) -> list[Fault]:
        """Check a line of training and return its faults, the worst one first.

        A number that is not finite is the only fault that is returned, because the other checks need finite numbers.
        """
        for name in ("loss", "mse", "grad_norm"):
            value = getattr(line, name)
            if not math.isfinite(value):
                what = {"loss": "The loss", "mse": "The error of the rays", "grad_norm": "The gradient"}[name]
                sentence = f"{what} is {value} within the steps before {line.step}: the weights cannot be used."
                return [Fault("non-finite", sentence, {"what": name, "value": str(value)})]
        looks = (self._moments_lost, self._density, self._exploded, self._collapsed, self._plateau)
        return [fault for look in looks if (fault := look(line)) is not None]

    def evaluated(self, step: int, psnr: float, blank_psnr: float) -> Fault | None:
        """Check an evaluation and return its fault, or None if it shows no fault.

        Args:
            step: number of training steps done.
            psnr: mean PSNR of the test views, dB.
            blank_psnr: mean PSNR of the best blank pictures for these views, dB.
        """
        if not math.isfinite(psnr):
            evidence: dict[str, float | str] = {"what": "psnr", "value": str(psnr)}
            sentence = f"The pictures at step {step} are not finite: the weights cannot be used."
            return Fault("non-finite", sentence, evidence)
        best, self._psnr = self._best_psnr, psnr
        self._best_psnr = psnr if best is None else max(best, psnr)
        if best is not None and psnr < best - self._collapse_db:
            return Fault(
                "collapse",
                f"The PSNR of the test views fell from {best:.2f} to {psnr:.2f} dB: the field has collapsed.",
                {"best_psnr": best, "psnr": psnr},
            )
        if step >= self._warmup_steps + self._plateau_steps and psnr < blank_psnr + BETTER_DB:
            known: dict[str, float | str] = {"psnr": psnr, "blank_psnr": blank_psnr}
            why = ""
            if self._mse is not None and self._blank_mse is not None:
                known["batch_psnr"] = -_db(self._mse)
                if _db(self._blank_mse / self._mse) >= BETTER_DB:
                    why = (
                        f" The training rays have {-_db(self._mse):.1f} dB, so the test views may have another "
                        "background or other poses."
                    )
            return Fault(
                "blank-plateau",
                f"After {step} steps the test views have a PSNR of {psnr:.2f} dB, and a blank picture has "
                f"{blank_psnr:.2f} dB.{why}",
                known,
            )
        return None

    def forget_errors(self) -> None:
        """Forget the errors of the training rays. Call this when the next rays cannot be compared with them."""
        self._mse = self._blank_mse = self._best_mse = None

    def state(self) -> dict[str, Any]:
        """Return the state of the watchdog for a checkpoint, as JSON holds it."""
        return {
            "best_psnr": self._best_psnr,
            "psnr": self._psnr,
            "mse": self._mse,
            "blank_mse": self._blank_mse,
            "best_mse": self._best_mse,
            "better_at": self._better_at,
            "norms": list(self._norms),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a state that :meth:`state` returned.

        The counts of faulty lines in a row start at 0, because a state with such lines is not saved as good.
        """
        self._best_psnr, self._psnr = state.get("best_psnr"), state.get("psnr")
        self._mse, self._blank_mse, self._best_mse = state.get("mse"), state.get("blank_mse"), state.get("best_mse")
        self._better_at = state.get("better_at", self._warmup_steps)
        self._norms = deque(state.get("norms", ()), maxlen=NORM_LINES)
        self._in_a_row = {}

    def _lasting(self, name: str, wrong: bool, lines: int) -> bool:
        """Count a faulty line, and return whether there were ``lines`` of them in a row."""
        self._in_a_row[name] = self._in_a_row.get(name, 0) + 1 if wrong else 0
        return self._in_a_row[name] >= lines

    def _moments_lost(self, line: TrainLine) -> Fault | None:
        """Check whether the state of the optimizer was lost."""
        if line.lost_moments < LOST_MOMENTS:
            return None
        return Fault(
            "optimizer-reset",
            f"{line.lost_moments:.0%} of Adam's second moments fell faster than its decay allows: the state of the "
            "optimizer was lost, and its steps are wrong until the moments have recovered.",
            {"lost_moments": line.lost_moments},
        )

    def _density(self, line: TrainLine) -> Fault | None:
        """Check whether the density is 0 everywhere or high everywhere."""
        dead = line.empty_rays >= DEAD_RAYS and line.alpha >= LEAST_ALPHA
        if self._lasting("dead", dead, FAULTY_LINES):
            return Fault(
                "dead-density",
                f"{line.empty_rays:.1%} of the rays are empty, although {line.alpha:.0%} of their pixels show the "
                "object: the density is 0 everywhere, and almost no gradient can raise it again.",
                {"empty_rays": line.empty_rays, "alpha": line.alpha},
            )
        saturated = line.opaque_rays >= DEAD_RAYS and line.alpha <= MOST_ALPHA
        if self._lasting("saturated", saturated, FAULTY_LINES):
            return Fault(
                "saturated-density",
                f"{line.opaque_rays:.1%} of the rays are opaque, although {1 - line.alpha:.0%} of their pixels show "
                "the background: the density is high everywhere, and no gradient reaches what lies behind.",
                {"opaque_rays": line.opaque_rays, "alpha": line.alpha},
            )
        return None

    def _exploded(self, line: TrainLine) -> Fault | None:
        """Check whether the gradient norm is far above its median in two lines in a row."""
        usual = statistics.median(self._norms) if len(self._norms) >= FEWEST_NORMS else None
        exploded = usual is not None and 0 < EXPLODED * usual < line.grad_norm
        if not exploded:
            self._norms.append(line.grad_norm)
        if not self._lasting("exploding", exploded, 2) or usual is None:  # a single outlier does no harm
            return None
        factor = line.grad_norm / usual
        return Fault(
            "exploding-gradients",
            f"The gradient norm is {line.grad_norm:.3g}, {factor:.3g} times its median of {usual:.3g}: the training "
            "is unstable.",
            {"grad_norm": line.grad_norm, "median": usual},
        )

    def _collapsed(self, line: TrainLine) -> Fault | None:
        """Check whether the smoothed error of the training rays rose far above its minimum."""

        def smooth(before: float | None, now: float) -> float:
            return now if before is None else SMOOTHING * before + (1.0 - SMOOTHING) * now

        self._mse, self._blank_mse = smooth(self._mse, line.mse), smooth(self._blank_mse, line.blank_mse)
        best = self._best_mse = self._mse if self._best_mse is None else min(self._best_mse, self._mse)
        fall = _db(self._mse / best)
        if fall <= self._collapse_db:
            return None
        return Fault(
            "collapse",
            f"The PSNR of the training rays fell from {-_db(best):.2f} to {-_db(self._mse):.2f} dB: the field has "
            "collapsed.",
            {"best_psnr": -_db(best), "psnr": -_db(self._mse)},
        )

    def _plateau(self, line: TrainLine) -> Fault | None:
        """Check whether the training rays have been no better than a blank picture for too long."""
        if self._mse is None or self._blank_mse is None:
            return None
        step = line.step or 0
        if _db(self._blank_mse / self._mse) >= BETTER_DB:
            self._better_at = step
        if step - self._better_at < self._plateau_steps:
            return None
        return Fault(
            "blank-plateau",
            f"For {step - self._better_at} steps the training rays have been no better than a blank picture: "
            f"they have a PSNR of {-_db(self._mse):.2f} dB, and one colour everywhere has "
            f"{-_db(self._blank_mse):.2f} dB.",
            {"psnr": -_db(self._mse), "blank_psnr": -_db(self._blank_mse), "steps": step - self._better_at},
        )


def _db(ratio: float) -> float:
    """Return a ratio of errors in dB. A ratio below 1e-10 counts as 1e-10, as in :mod:`nerf_metal.train.metrics`."""
    return 10.0 * math.log10(max(ratio, 1e-10))
