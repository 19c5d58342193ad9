"""One check for each cause that is inferred from the record: it yields the cause with its evidence, or nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from nerf_metal.models.coarse_fine.field import MAX_ROWS
from nerf_metal.report.cause import (
    CLIP,
    LOWER_RATE,
    SHOWN_CAUSES,
    USE_STABLE,
    WARM_UP,
    Cause,
    Certainty,
    fill,
    place_of,
    short,
)
from nerf_metal.report.findings import Findings
from nerf_metal.report.record import Record
from nerf_metal.train.lines import HealthLine, TrainLine
from nerf_metal.train.watchdog import BETTER_DB

EXPLODED = 10.0
"""A gradient or weight norm this many times its own median has exploded: a healthy norm stays within a factor of 3."""
FAST_UPDATE = 1e-2
"""A ratio of update norm to weight norm above this is too fast: about 1e-3 is usual, and 1e-2 replaces a layer in 100
steps."""
PAPER_LR = 5e-4
"""The NeRF paper's learning rate, for 8 layers of 256 units. With it, runs of that size end as a blank picture for some
seeds (nerf_pl #46); a rate of 1e-4, warm-up or clipping repairs them (nerf_pl #85)."""
PAPER_WIDTH = 256
ALL_RAYS = 0.98
"""A fraction of rays from which on all of them count as empty, or as opaque: no scene with a background in its images
has so few rays of the other kind."""
MISMATCH_DB = 6.0
"""Training batches that are better than test views by this, four times less error, do not show the same thing. Between
views of one scene the difference is 1 to 2 dB."""
FIXED_TORCH = (2, 14)
"""The first torch version with right weight gradients on Apple GPUs."""
WRONG_ROWS = MAX_ROWS + 1
"""The fewest rows from which on the weight gradients of older versions are wrong."""
Span = tuple[float, float]
"""The orders of the first and the last evaluation of a collapse."""


def wrong_matmul(record: Record) -> Iterator[Cause]:
    """Check for wrong weight gradients.

    For a run of nerf_metal, use what its self-test found. For a run of another program, use its device, its version of
    torch and its sizes.
    """
    sentence = "torch before 2.14 computes wrong weight gradients on Apple GPUs (pytorch #177116, #193487)"
    changes = (
        "Install torch 2.14 or later: pip install -U torch",
        f"Call Linear with at most {_thousands(MAX_ROWS)} rows, as nerf-metal train does",
        "Test whether this machine computes wrong results: nerf-metal doctor --full",
    )
    for event in record.events:
        wrong, used = event.evidence.get("rows_wrong"), event.evidence.get("rows_used")
        if event.name != "wrong-matmul" or not isinstance(wrong, int) or not isinstance(used, int):
            continue
        if wrong <= used:  # else the run splits its calls into fewer rows than the fault needs
            numbers = ", ".join(f"{key} {short(value)}" for key, value in event.evidence.items())
            found = f"The self-test found wrong gradients at {wrong} rows, and the run's calls have {used} rows."
            changes = (changes[0], changes[2], "Train on the CPU: --device cpu")
            yield Cause(
                "wrong-matmul", sentence, Certainty.SHOWN, (found, f"The self-test recorded: {numbers}."), changes
            )
            return
    rays, coarse, fine = (record.option(name) for name in ("batch_rays", "num_samples", "num_importance"))
    if record.ours or record.device != "mps" or not isinstance(rays, int) or not isinstance(coarse, int):
        return
    rows = [rays * coarse, *([rays * (coarse + fine)] if isinstance(fine, int) else [])]
    torch = record.versions.get("torch")
    number = re.match(r"(\d+)\.(\d+)", torch or "")
    if max(rows) < WRONG_ROWS or (number and (int(number[1]), int(number[2])) >= FIXED_TORCH):
        return
    of = f"{rays} rays of {coarse}" + (f" and {coarse + fine} samples" if len(rows) > 1 else " samples")
    evidence = (
        "The run used the device mps.",
        f"The weight gradients of a step sum over {' and '.join(map(_thousands, rows))} rows ({of}). They are wrong "
        f"from {_thousands(WRONG_ROWS)} rows on.",
        f"The run used torch {torch}."
        if torch
        else "The version of torch and the chip are not recorded. M1 and M2 are known to be affected.",
    )
    yield Cause("wrong-matmul", sentence, Certainty.LIKELY if torch else Certainty.POSSIBLE, evidence, changes)


def learning_rate(record: Record, findings: Findings) -> Iterator[Cause]:
    """Check for a learning rate that is too high, by the norms before and in a collapse, or by the options alone."""
    falls: list[Span] = [
        (record.evals[phase.start].order, record.evals[phase.end].order)
        for phase in findings.phases
        if phase.kind == "collapse"
    ]
    evidence = [*_exploded_gradients(record, falls), *_fast_updates(record, falls), *_grown_weights(record, falls)]
    recorded = bool(evidence)
    lr, clip, warm = (record.option(name) for name in ("lr", "clip_norm", "warmup_steps"))
    wide = isinstance(width := record.option("hidden_width"), int) and width >= PAPER_WIDTH
    high = isinstance(lr, int | float) and lr >= PAPER_LR and record.option("field") != "hashgrid" and wide
    if high:
        evidence.append(
            f"The run has --lr {lr:g} with layers of {width} units. Others needed 1e-4 to 2e-4 at that width."
        )
    if not (recorded or high):
        return
    if clip == 0:
        evidence.append("The gradients were not clipped (--clip-norm 0).")
    if warm == 0:
        evidence.append("The learning rate was not warmed up (--warmup-steps 0).")
    if not record.health and not any(point.grad_norm is not None for point in record.train):
        evidence.append("Gradient norms are not recorded, so no number confirms it.")
    changes = [fill(LOWER_RATE, record)]
    changes += [WARM_UP] if not warm else []
    changes += [CLIP] if not clip else []
    certainty = Certainty.LIKELY if recorded else Certainty.POSSIBLE
    yield Cause("learning-rate", "The learning rate is too high", certainty, tuple(evidence), (*changes, USE_STABLE))


def _exploded_gradients(record: Record, falls: Sequence[Span]) -> Iterator[str]:
    """Compare the gradient norms in a collapse with the median before the first collapse."""
    norms = [(point, point.grad_norm) for point in record.train if point.grad_norm is not None]
    before = [norm for point, norm in norms if falls and point.order <= falls[0][0]]
    inside = [pair for pair in norms if any(first < pair[0].order <= last for first, last in falls)]
    if inside and before and (usual := median(before)) > 0:
        point, greatest = max(inside, key=lambda pair: pair[1])
        if greatest >= EXPLODED * usual:
            times = f"{greatest / usual:.0f} times its usual value"
            yield f"The gradient norm is {greatest:.3g} at {place_of(record, point)}, {times}."


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
        where = place_of(record, health)
        yield f"The updates of {name} are {ratio:.3g} of its weights at {where}. About 0.001 is usual."


def _grown_weights(record: Record, falls: Sequence[Span]) -> Iterator[str]:
    lines = [health for health in record.health if _may_have_led_to(health, falls)]
    for before, after in pairwise(lines):
        for name, now in after.groups.items():
            old, new = before.groups.get(name, {}).get("weight_norm", 0.0), now.get("weight_norm", 0.0)
            if old > 0 and new >= EXPLODED * old:
                where = place_of(record, after)
                yield f"The weight norm of {name} grew from {old:.3g} to {new:.3g} by {where}."
                return


def _may_have_led_to(health: HealthLine, falls: Sequence[Span]) -> bool:
    """Return whether a health line lies before the end of the first collapse or inside a later one.

    A line after a collapse shows its effects, not its cause. The health line of an evaluation comes right after it.
    Without a collapse, any line may have led to the failure.
    """
    inside = any(first < health.order <= last + 1 for first, last in falls)
    return not falls or inside or health.order <= falls[0][1]


def density(record: Record) -> Iterator[Cause]:
    """Check for a dead or saturated density, by the last recorded rays. ``alpha`` says how many rays should be
    opaque."""
    alphas = [point.alpha for point in record.train if point.alpha is not None]
    alpha = median(alphas) if alphas else None
    activation = record.option("density_activation")
    for name, attribute, truth in (
        ("dead-density", "empty_rays", None if alpha is None else 1.0 - alpha),
        ("saturated-density", "opaque_rays", alpha),
    ):
        lines: list[TrainLine | HealthLine] = record.network_lines
        points = [point for point in lines if getattr(point, attribute) is not None]
        if not points:
            continue
        last = max(points, key=lambda point: point.order)
        share = getattr(last, attribute)
        if share < ALL_RAYS or (truth is not None and truth >= share - 0.02):
            continue
        what, should = ("empty", "background") if name == "dead-density" else ("opaque", "covered")
        evidence = [f"{share:.0%} of the rays are {what} at {place_of(record, last)}."]
        evidence.append(
            f"In the images, {truth:.0%} of the pixels are {should}."
            if truth is not None
            else "The images' own share is not recorded."
        )
        if activation and name == "dead-density":
            evidence.append(
                "With --density-activation relu, a negative density has no gradient."
                if activation == "relu"
                else f"With --density-activation {activation}, it has a gradient everywhere: large steps killed it."
            )
        sentence, changes = SHOWN_CAUSES[name]
        certainty = Certainty.SHOWN if truth is not None and name == "dead-density" else Certainty.LIKELY
        if truth is None and name == "saturated-density":
            certainty = Certainty.POSSIBLE  # images without a background look like this
        skip = f"--density-activation {activation}"
        yield Cause(
            name, sentence, certainty, tuple(evidence), tuple(fill(x, record) for x in changes if skip not in x)
        )


def background(record: Record, findings: Findings) -> Iterator[Cause]:
    """Check for good training batches beside blank test views."""
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
        f"At {record.place(last)}, training batches have a PSNR of {batch:.1f} dB and test views {last.psnr:.1f} dB: "
        f"the difference is {batch - last.psnr:.1f} dB."
    ]
    evidence += [f"A blank picture has {blank:.1f} dB on the training batches."] if blank is not None else []
    background = record.option("background")
    evidence.append(
        f"The run has --background {background}." if background else "The background colour is not recorded."
    )
    changes = (
        "Train, render and evaluate over one background colour: --background white",
        "If the background is already the same, check the poses of the test views, and train on more views",
    )
    yield Cause(
        "background-mismatch",
        "Training and test views do not show the same thing: they differ in background or in poses",
        Certainty.LIKELY,
        tuple(evidence),
        changes,
    )


def _thousands(number: int) -> str:
    return f"{number:,}".replace(",", " ")
