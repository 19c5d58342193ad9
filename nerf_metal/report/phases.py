"""The phases of a run: whether PSNR improved, stayed level, collapsed or recovered between evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

Kind = Literal["improving", "plateau", "collapse", "recovered"]

COLLAPSE_DB = 1.5
"""A fall below the best PSNR by this much is a collapse: 41 % more error, three times what :data:`NOISE_DB` allows."""
RECOVERED_DB = 1.0
"""A run has recovered when it is back within this of the best PSNR before the collapse: less than :data:`COLLAPSE_DB`,
so that the next small fall is no new collapse, and more than :data:`NOISE_DB`."""
NOISE_DB = 0.5
"""The noise of a healthy run between evaluations. A PSNR this near the best is not yet a fall, and a smaller rise
between two plateaus is no improvement."""
PLATEAU_DB = 0.3
"""A rise of less than this over a quarter of the run is a plateau: at that pace the whole run gains 1.2 dB, a
difference that a person hardly sees in a picture."""
PLATEAU_PART = 4
"""A plateau lasts at least the evaluations divided by this: a shorter one belongs to the improvement around it."""


@dataclass(frozen=True)
class Phase:
    """A part of a run between two evaluations. The next phase starts at the evaluation where this one ends.

    Attributes:
        kind: what PSNR did.
        start: the index of the first evaluation.
        end: the index of the last evaluation.
        change_db: the PSNR at the end minus the PSNR at the start, dB.
        change_percent: the same change in percent of the PSNR at the start. None if that PSNR is not positive.
    """

    kind: Kind
    start: int
    end: int
    change_db: float
    change_percent: float | None


def find_phases(psnr: Sequence[float]) -> list[Phase]:
    """Split a run into phases that cover it from the first evaluation to the last.

    Args:
        psnr: the PSNR of each evaluation in order, dB. Fewer than two evaluations have no phases.
    """
    kinds: list[Kind] = []  # one for each interval between two evaluations
    target: float | None = None  # the PSNR that a recovery has to reach again
    start = 0
    while start < len(psnr) - 1:
        fall = _find_collapse(psnr, start)
        back = len(psnr) if target is None else _first(psnr, start, target - RECOVERED_DB)
        if back < len(psnr) and (fall is None or back <= fall[0]):
            low = _last_near_least(psnr, start, back)
            kinds += _trends(psnr, start, low)
            kinds.extend(repeat("recovered", back - low))
            start, target = back, None
        elif fall is not None:
            begin, bottom = fall
            kinds += _trends(psnr, start, begin)
            kinds.extend(repeat("collapse", bottom - begin))
            target = max(psnr[start : begin + 1]) if target is None else max(target, *psnr[start : begin + 1])
            start = bottom
        else:
            kinds += _trends(psnr, start, len(psnr) - 1)
            break
    return _merge(kinds, psnr)


def _find_collapse(psnr: Sequence[float], start: int) -> tuple[int, int] | None:
    """Find the first collapse from ``start`` on. Return the last evaluation near the best and the one where the fall
    ends."""
    best = psnr[start]
    for low in range(start + 1, len(psnr)):
        best = max(best, psnr[low])
        if best - psnr[low] >= COLLAPSE_DB:
            begin = max(i for i in range(start, low) if psnr[i] > best - NOISE_DB)
            while low + 1 < len(psnr) and psnr[low + 1] < psnr[low] - PLATEAU_DB:
                low += 1
            return begin, low
    return None


def _first(psnr: Sequence[float], start: int, least: float) -> int:
    """Return the first evaluation after ``start`` with at least this PSNR, or the number of evaluations if none has."""
    return next((i for i in range(start + 1, len(psnr)) if psnr[i] >= least), len(psnr))


def _last_near_least(psnr: Sequence[float], start: int, end: int) -> int:
    least = min(psnr[start:end])
    return max(i for i in range(start, end) if psnr[i] <= least + PLATEAU_DB)


def _trends(psnr: Sequence[float], start: int, end: int) -> list[Kind]:
    """Return ``improving`` or ``plateau`` for each interval of a part without a collapse."""
    count = end - start
    if count <= 0:
        return []
    best = [max(psnr[start : start + i + 1]) for i in range(count + 1)]
    window = min(count, max(2, math.ceil((len(psnr) - 1) / PLATEAU_PART)))
    flat = [False] * count
    for i in range(count - window + 1):
        if best[i + window] - best[i] < PLATEAU_DB:
            flat[i : i + window] = [True] * window
    runs = _runs(["plateau" if x else "improving" for x in flat])
    kinds: list[Kind] = []
    for i, (kind, first, last) in enumerate(runs):
        between = 0 < i < len(runs) - 1
        small = kind == "improving" and between and best[last] - best[first] < NOISE_DB
        kinds += ["plateau" if small else kind] * (last - first)
    return kinds


def _runs(kinds: Sequence[Kind]) -> list[tuple[Kind, int, int]]:
    """Return the kind, the first and the last evaluation of each run of equal kinds."""
    runs: list[tuple[Kind, int, int]] = []
    for i, kind in enumerate(kinds):
        if runs and runs[-1][0] == kind:
            runs[-1] = (kind, runs[-1][1], i + 1)
        else:
            runs.append((kind, i, i + 1))
    return runs


def _merge(kinds: Sequence[Kind], psnr: Sequence[float]) -> list[Phase]:
    return [
        Phase(
            kind,
            first,
            last,
            psnr[last] - psnr[first],
            100.0 * (psnr[last] - psnr[first]) / psnr[first] if psnr[first] > 0 else None,
        )
        for kind, first, last in _runs(kinds)
    ]
