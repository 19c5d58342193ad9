"""Finds out that a run is failing, from what it measures, and says so in words.

Pure arithmetic on a few numbers: a line of training (every 20 steps) or an evaluation goes in, each :class:`Fault` that
shows comes out. What is done about a fault is the trainer's part (:mod:`nerf_metal.train.recovery`).
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
"""A picture counts as better than a blank one from here on: what another choice of views or of the blank page's colour
may account for is about half of it."""
SMOOTHING = 0.8
"""What a line keeps of the smoothed errors: five lines, 100 steps. A line of 256 rays a step scatters by 0.3 dB; one
outlier of five times the error is not yet a collapse."""
GOOD_DB = 1.0
"""A checkpoint within this of the best so far is one to go back to."""
FAULTY_LINES = 5
"""Lines in a row with dead or saturated density that are a fault: 100 steps, in which a healthy start has moved on."""
DEAD_RAYS = 0.999
"""Fraction of empty (or opaque) rays that is all of them, but for a few that graze the box."""
LEAST_ALPHA, MOST_ALPHA = 0.01, 0.95
"""Mean alpha of a batch whose rays must not all be empty; and of one whose rays must not all be opaque: photographs
without alpha are."""
EXPLODED = 100.0
"""Gradient norm over the median of the lines before that is an explosion. Healthy runs stay below 10."""
NORM_LINES, FEWEST_NORMS = 50, 10
"""Lines of that median, and how few will do."""
LOST_MOMENTS = 0.1
"""Part of Adam's second moments that fell faster than they can: in a healthy run it is 0."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with a run.

    Attributes:
        name: one of :data:`nerf_metal.train.options.WATCHDOG_FAULTS`.
        sentence: for a person: what is seen, and what it means.
        evidence: the numbers behind it.
    """

    name: str
    sentence: str
    evidence: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def lost(self) -> bool:
        """Whether no step from here can mend it."""
        return self.name == "non-finite"


class Watchdog:
    """Looks at one run after the other line.

    Args:
        collapse_db: fall of the PSNR that is a collapse.
        plateau_steps: steps without being better than a blank picture that are a plateau.
        warmup_steps: first steps, in which nobody expects a picture.
    """

    def __init__(self, *, collapse_db: float, plateau_steps: int, warmup_steps: int = 0) -> None:
        """Nothing is seen yet."""
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
        """Whether the run is as one would go back to: better than a blank picture, and near its best."""
        if self._mse is None or self._blank_mse is None or self._best_mse is None:
            return False
        if self._psnr is not None and self._best_psnr is not None and self._psnr < self._best_psnr - GOOD_DB:
            return False
        near_best = _db(self._mse / self._best_mse) <= GOOD_DB
        return near_best and _db(self._blank_mse / self._mse) >= BETTER_DB and not any(self._in_a_row.values())

    def line(self, line: TrainLine) -> list[Fault]:
        """Look at a line of training; the worst fault comes first, and one that makes the others meaningless alone."""
        for name in ("loss", "mse", "grad_norm"):
            value = getattr(line, name)
            if not math.isfinite(value):
                what = {"loss": "The loss", "mse": "The error of the rays", "grad_norm": "The gradient"}[name]
                sentence = f"{what} is {value} within the steps before {line.step}: no step can mend the weights."
                return [Fault("non-finite", sentence, {"what": name, "value": str(value)})]
        looks = (self._moments_lost, self._density, self._exploded, self._collapsed, self._plateau)
        return [fault for look in looks if (fault := look(line)) is not None]

    def evaluated(self, step: int, psnr: float, blank_psnr: float) -> Fault | None:
        """Look at an evaluation; None where it shows no fault."""
        if not math.isfinite(psnr):
            evidence: dict[str, float | str] = {"what": "psnr", "value": str(psnr)}
            return Fault("non-finite", f"The pictures of step {step} are not finite: the weights are lost.", evidence)
        best, self._psnr = self._best_psnr, psnr
        self._best_psnr = psnr if best is None else max(best, psnr)
        if best is not None and psnr < best - self._collapse_db:
            return Fault(
                "collapse",
                f"The test views fell from {best:.2f} to {psnr:.2f} dB: the field has lost what it had learnt.",
                {"best_psnr": best, "psnr": psnr},
            )
        if step >= self._warmup_steps + self._plateau_steps and psnr < blank_psnr + BETTER_DB:
            known: dict[str, float | str] = {"psnr": psnr, "blank_psnr": blank_psnr}
            why = ""
            if self._mse is not None and self._blank_mse is not None:
                known["batch_psnr"] = -_db(self._mse)
                if _db(self._blank_mse / self._mse) >= BETTER_DB:
                    why = f" Training rays reach {-_db(self._mse):.1f} dB: test views have another background or pose."
            return Fault(
                "blank-plateau",
                f"After {step} steps the test views score {psnr:.2f} dB, a blank picture {blank_psnr:.2f} dB.{why}",
                known,
            )
        return None

    def forget_errors(self) -> None:
        """The rays are of another kind from here on: errors before are no measure for those that come."""
        self._mse = self._blank_mse = self._best_mse = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold of it."""
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
        """Go back to a state; nothing is in a row there, since no faulty state is saved."""
        self._best_psnr, self._psnr = state.get("best_psnr"), state.get("psnr")
        self._mse, self._blank_mse, self._best_mse = state.get("mse"), state.get("blank_mse"), state.get("best_mse")
        self._better_at = state.get("better_at", self._warmup_steps)
        self._norms = deque(state.get("norms", ()), maxlen=NORM_LINES)
        self._in_a_row = {}

    def _lasting(self, name: str, wrong: bool, lines: int) -> bool:
        """Whether something has been wrong for so many lines in a row."""
        self._in_a_row[name] = self._in_a_row.get(name, 0) + 1 if wrong else 0
        return self._in_a_row[name] >= lines

    def _moments_lost(self, line: TrainLine) -> Fault | None:
        if line.lost_moments < LOST_MOMENTS:
            return None
        return Fault(
            "optimizer-reset",
            f"{line.lost_moments:.0%} of Adam's second moments fell faster than its decay lets them: its state was "
            "lost, and its steps go astray until it is back.",
            {"lost_moments": line.lost_moments},
        )

    def _density(self, line: TrainLine) -> Fault | None:
        dead = line.empty_rays >= DEAD_RAYS and line.alpha >= LEAST_ALPHA
        if self._lasting("dead", dead, FAULTY_LINES):
            return Fault(
                "dead-density",
                f"{line.empty_rays:.1%} of the rays meet nothing, though {line.alpha:.0%} of their pixels are covered: "
                "the density is 0 everywhere, and where it is 0 it has next to no gradient.",
                {"empty_rays": line.empty_rays, "alpha": line.alpha},
            )
        saturated = line.opaque_rays >= DEAD_RAYS and line.alpha <= MOST_ALPHA
        if self._lasting("saturated", saturated, FAULTY_LINES):
            return Fault(
                "saturated-density",
                f"{line.opaque_rays:.1%} of the rays are opaque, though {1 - line.alpha:.0%} of their pixels are "
                "background: the density is a wall everywhere, and nothing behind it can learn.",
                {"opaque_rays": line.opaque_rays, "alpha": line.alpha},
            )
        return None

    def _exploded(self, line: TrainLine) -> Fault | None:
        usual = statistics.median(self._norms) if len(self._norms) >= FEWEST_NORMS else None
        exploded = usual is not None and 0 < EXPLODED * usual < line.grad_norm
        if not exploded:
            self._norms.append(line.grad_norm)
        if not self._lasting("exploding", exploded, 2) or usual is None:  # one outlier is clipped and forgotten
            return None
        factor = line.grad_norm / usual
        return Fault(
            "exploding-gradients",
            f"The gradient's norm is {line.grad_norm:.3g}, {factor:.3g} times its median of {usual:.3g}: the next "
            "steps go anywhere.",
            {"grad_norm": line.grad_norm, "median": usual},
        )

    def _collapsed(self, line: TrainLine) -> Fault | None:
        def smooth(before: float | None, now: float) -> float:
            return now if before is None else SMOOTHING * before + (1.0 - SMOOTHING) * now

        self._mse, self._blank_mse = smooth(self._mse, line.mse), smooth(self._blank_mse, line.blank_mse)
        best = self._best_mse = self._mse if self._best_mse is None else min(self._best_mse, self._mse)
        fall = _db(self._mse / best)
        if fall <= self._collapse_db:
            return None
        return Fault(
            "collapse",
            f"The training rays fell from {-_db(best):.2f} to {-_db(self._mse):.2f} dB: the field has lost what it had "
            "learnt.",
            {"best_psnr": -_db(best), "psnr": -_db(self._mse)},
        )

    def _plateau(self, line: TrainLine) -> Fault | None:
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
            f"{-_db(self._mse):.2f} dB, where one colour everywhere scores {-_db(self._blank_mse):.2f} dB.",
            {"psnr": -_db(self._mse), "blank_psnr": -_db(self._blank_mse), "steps": step - self._better_at},
        )


def _db(ratio: float) -> float:
    """A ratio of errors in dB; of nothing, as little as an 8-bit picture can tell."""
    return 10.0 * math.log10(max(ratio, 1e-10))
