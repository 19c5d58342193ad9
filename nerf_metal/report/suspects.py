"""The suspects: causes that the numbers of a run may speak for, each with its evidence."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from nerf_metal.models.coarse_fine.field import MAX_ROWS
from nerf_metal.report.cause import SHOWN_CAUSES, STABLE, Cause, Certainty, at, fill, short
from nerf_metal.report.findings import Findings
from nerf_metal.report.record import Health, Record, Train
from nerf_metal.train.watchdog import BETTER_DB

EXPLODED = 10.0
"""A gradient or weight norm this many times its own median has exploded: healthy ones stay within a factor of 3."""
FAST_UPDATE = 1e-2
"""An update over weights above this is too fast: about 1e-3 is usual, and 1e-2 replaces a layer in 100 steps."""
PAPER_LR = 5e-4
"""The NeRF paper's rate, with 8 layers of 256 units: runs of that size with it end as a blank page by chance of the
seed (nerf_pl #46), and 1e-4, warm-up or clipping mend them (nerf_pl #85)."""
PAPER_WIDTH = 256
ALL_RAYS = 0.98
"""Rays that are all empty, or all opaque: no scene with a background in its pictures has so few of the other kind."""
MISMATCH_DB = 6.0
"""Training batches better than test views by this: four times less error. Between views it is 1 to 2 dB."""
FIXED_TORCH = (2, 14)
REDUCTION = MAX_ROWS + 1
Span = tuple[float, float]
"""The orders of a collapse's first and last evaluation."""


def matmul(record: Record) -> Iterator[Cause]:
    """Wrong weight gradients: what the self-test found; for another program's run, its device, torch and sizes."""
    sentence = "torch before 2.14 computes wrong weight gradients on Apple GPUs (pytorch #177116, #193487)"
    changes = (
        "torch 2.14 or later: pip install -U torch",
        f"no Linear call of more than {_thousands(MAX_ROWS)} rows: nerf-metal train never makes one",
        "nerf-metal doctor --full says whether this machine computes wrong",
    )
    for event in record.events:
        wrong, used = event.evidence.get("rows_wrong"), event.evidence.get("rows_used")
        if event.name != "wrong-matmul" or not isinstance(wrong, int) or not isinstance(used, int):
            continue
        if wrong <= used:  # else calls were cut to fewer rows than it takes
            numbers = ", ".join(f"{key} {short(value)}" for key, value in event.evidence.items())
            found = f"the self-test found wrong gradients at {wrong} rows; the run's calls have {used}"
            cures = (changes[0], changes[2], "--device cpu")
            yield Cause("wrong-matmul", sentence, Certainty.SHOWN, (found, numbers), cures)
            return
    rays, coarse, fine = (record.option(name) for name in ("batch_rays", "num_samples", "num_importance"))
    if record.ours or record.device != "mps" or not isinstance(rays, int) or not isinstance(coarse, int):
        return
    rows = [rays * coarse, *([rays * (coarse + fine)] if isinstance(fine, int) else [])]
    torch = record.versions.get("torch")
    number = re.match(r"(\d+)\.(\d+)", torch or "")
    if max(rows) < REDUCTION or (number and (int(number[1]), int(number[2])) >= FIXED_TORCH):
        return
    of = f"{rays} rays of {coarse}" + (f" and {coarse + fine} samples" if len(rows) > 1 else " samples")
    evidence = (
        "device mps",
        f"a step's weight gradients reduce over {' and '.join(map(_thousands, rows))} rows ({of}); "
        f"from {_thousands(REDUCTION)} on they are wrong",
        f"torch {torch}" if torch else "torch's version and the chip are not recorded: M1 and M2 are known to be hit",
    )
    yield Cause("wrong-matmul", sentence, Certainty.LIKELY if torch else Certainty.POSSIBLE, evidence, changes)


def learning_rate(record: Record, findings: Findings) -> Iterator[Cause]:
    """Too high: by norms before and in the first collapse, or by the options."""
    falls: list[Span] = [
        (record.evals[phase.start].order, record.evals[phase.end].order)
        for phase in findings.phases
        if phase.kind == "collapse"
    ]
    evidence = [*_exploded_gradients(record, falls), *_fast_updates(record, falls), *_grown_weights(record, falls)]
    measured = bool(evidence)
    lr, clip, warm = (record.option(name) for name in ("lr", "clip_norm", "warmup_steps"))
    wide = isinstance(width := record.option("hidden_width"), int) and width >= PAPER_WIDTH
    hot = isinstance(lr, int | float) and lr >= PAPER_LR and record.option("field") != "hashgrid" and wide
    if hot:
        evidence.append(f"--lr {lr:g} with {width} units; 1e-4 to 2e-4 is what others came down to")
    if not (measured or hot):
        return
    if clip == 0:
        evidence.append("gradients were not clipped (--clip-norm 0)")
    if warm == 0:
        evidence.append("no warm-up (--warmup-steps 0)")
    if not record.health and not any(point.grad_norm is not None for point in record.train):
        evidence.append("gradient norms are not recorded, so nothing measured says so")
    changes = [f"a smaller rate: {fill('--lr {lr}', record)}"]
    changes += ["--warmup-steps 500"] if not warm else []
    changes += ["--clip-norm 1"] if not clip else []
    certainty = Certainty.LIKELY if measured else Certainty.POSSIBLE
    yield Cause("learning-rate", "The learning rate is too high", certainty, tuple(evidence), (*changes, STABLE))


def _exploded_gradients(record: Record, falls: Sequence[Span]) -> Iterator[str]:
    """Inside a collapse, against the time before the first: the first steps of a run are never its usual ones."""
    norms = [(point, point.grad_norm) for point in record.train if point.grad_norm is not None]
    before = [norm for point, norm in norms if falls and point.order <= falls[0][0]]
    inside = [pair for pair in norms if any(first < pair[0].order <= last for first, last in falls)]
    if inside and before and (usual := median(before)) > 0:
        point, greatest = max(inside, key=lambda pair: pair[1])
        if greatest >= EXPLODED * usual:
            yield f"gradient norm {greatest:.3g} at {at(record, point)}, {greatest / usual:.0f} times the usual"


def _fast_updates(record: Record, falls: Sequence[Span]) -> Iterator[str]:
    ratios = [
        (norms["update_ratio"], name, health)
        for health in record.health
        if _may_have_led_to(health, falls)
        for name, norms in health.groups.items()
        if norms.get("update_ratio", 0.0) > FAST_UPDATE
    ]
    if ratios:
        ratio, name, health = max(ratios, key=lambda found: found[0])
        yield f"updates of {name} are {ratio:.3g} of its weights at {at(record, health)}; about 0.001 is usual"


def _grown_weights(record: Record, falls: Sequence[Span]) -> Iterator[str]:
    lines = [health for health in record.health if _may_have_led_to(health, falls)]
    for before, after in pairwise(lines):
        for name, now in after.groups.items():
            old, new = before.groups.get(name, {}).get("weight_norm", 0.0), now.get("weight_norm", 0.0)
            if old > 0 and new >= EXPLODED * old:
                yield f"weights of {name} grew from norm {old:.3g} to {new:.3g} by {at(record, after)}"
                return


def _may_have_led_to(health: Health, falls: Sequence[Span]) -> bool:
    """Whether a line lies before the first collapse's end or inside a later one, not in what they left behind; an
    evaluation's line comes right after it. Without a collapse any line may."""
    inside = any(first < health.order <= last + 1 for first, last in falls)
    return not falls or inside or health.order <= falls[0][1]


def density(record: Record) -> Iterator[Cause]:
    """Dead or saturated by the last measurement; ``alpha`` says what the pictures have."""
    alphas = [point.alpha for point in record.train if point.alpha is not None]
    alpha = median(alphas) if alphas else None
    activation = record.option("density_activation")
    for name, attribute, truth in (
        ("dead-density", "empty_rays", None if alpha is None else 1.0 - alpha),
        ("saturated-density", "opaque_rays", alpha),
    ):
        lines: list[Train | Health] = [*record.train, *record.health]
        points = [point for point in lines if getattr(point, attribute) is not None]
        if not points:
            continue
        last = max(points, key=lambda point: point.order)
        share = getattr(last, attribute)
        if share < ALL_RAYS or (truth is not None and truth >= share - 0.02):
            continue
        what = "let everything through" if name == "dead-density" else "end at once"
        evidence = [f"{share:.0%} of the rays {what} at {at(record, last)}"]
        evidence.append(
            f"in the pictures it is {truth:.0%}" if truth is not None else "the pictures' own share is not recorded"
        )
        if activation and name == "dead-density":
            evidence.append(
                "--density-activation relu has no gradient once it is negative"
                if activation == "relu"
                else f"--density-activation {activation}: it has a gradient everywhere, so large steps drove it there"
            )
        sentence, changes = SHOWN_CAUSES[name]
        certainty = Certainty.SHOWN if truth is not None and name == "dead-density" else Certainty.LIKELY
        if truth is None and name == "saturated-density":
            certainty = Certainty.POSSIBLE  # pictures without a background look like this
        skip = f"--density-activation {activation}"
        yield Cause(name, sentence, certainty, tuple(evidence), tuple(fill(x, record) for x in changes if x != skip))


def background(record: Record, findings: Findings) -> Iterator[Cause]:
    """Good training batches and blank test views."""
    if not findings.blank or not record.evals:
        return
    last = record.evals[-1]
    since = record.evals[-2].order if len(record.evals) > 1 else -1
    lines = [point for point in record.train if point.mse and since < point.order <= last.order + 1]
    if not lines:
        return
    batch = -10.0 * math.log10(median(point.mse for point in lines if point.mse))
    blanks = [point.blank_mse for point in lines if point.blank_mse]
    blank = -10.0 * math.log10(median(blanks)) if blanks else None
    if batch - last.psnr < MISMATCH_DB or (blank is not None and batch - blank < BETTER_DB):
        return
    evidence = [
        f"training batches reach {batch:.1f} dB, test views {last.psnr:.1f} dB at {record.place(last)}: "
        f"{batch - last.psnr:.1f} dB between them"
    ]
    evidence += [f"a blank page has {blank:.1f} dB on the batches"] if blank is not None else []
    background = record.option("background")
    evidence.append(f"--background {background}" if background else "the background is not recorded")
    changes = (
        "one background for training, rendering and measuring: --background white",
        "if that is so already: look whether the test views' poses belong to the same scene, and train on more views",
    )
    yield Cause(
        "background-mismatch",
        "Training and test pictures do not show the same thing: another background, or other poses",
        Certainty.LIKELY,
        tuple(evidence),
        changes,
    )


def _thousands(number: int) -> str:
    return f"{number:,}".replace(",", " ")
