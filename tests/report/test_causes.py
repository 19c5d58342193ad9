"""Each cause is found in an invented run that has it, with that run's numbers, and not in a similar healthy run."""

import dataclasses
import re

import pytest

from nerf_metal.report.diagnosis import find_causes
from nerf_metal.report.findings import judge
from nerf_metal.report.record import read_record
from nerf_metal.train.options import TrainConfig
from tests.report.runs import BLANK, COLLAPSED, HEALTHY, lines_of, report_of, watchdog, write_run


def causes_of(found) -> dict[str, str]:
    """Return names and certainties in their order."""
    return {cause.name: cause.certainty.name for cause in found.causes}


def evidence_of(found, name: str) -> str:
    (cause,) = (cause for cause in found.causes if cause.name == name)
    return "; ".join(cause.evidence)


def test_a_healthy_run_needs_no_cause(tmp_path):
    """A good, finished run has no causes, no changes and nothing unknown."""
    found = report_of(tmp_path / "run", lines_of((*HEALTHY[:8], *[22.3] * 6)))
    assert found.status == "good" and found.causes == () and found.changes == () and found.unknown == ()
    for said in ("beats a blank picture", "11.8 dB", "22.30 dB", "epoch 9"):
        assert said in found.verdict


def test_a_run_that_is_still_improving_was_too_short(tmp_path):
    found = report_of(tmp_path / "run", lines_of(HEALTHY))
    assert causes_of(found) == {"too-short": "LIKELY"} and "still improving" in found.verdict
    evidence = evidence_of(found, "too-short")
    assert "22.20, 22.80, 23.30 dB" in evidence and "+0.55 dB" in evidence
    (change,) = found.changes
    assert change.endswith(f"nerf-metal train --resume {tmp_path / 'run'} --steps 2000")
    below = report_of(tmp_path / "below", lines_of((5.0, 7.0, 9.0, 10.0)))
    assert below.status == "unfinished" and "too-short" in causes_of(below)


def test_a_gradient_that_explodes_before_the_collapse(tmp_path):
    lines = lines_of(COLLAPSED, grad_norm=lambda step: 3.1 if step == 640 else 0.02)
    found = report_of(tmp_path / "run", lines)
    assert causes_of(found) == {"learning-rate": "LIKELY"}
    evidence = evidence_of(found, "learning-rate")
    assert "3.1 at step 640" in evidence and "155 times" in evidence
    changes = " ".join(found.changes)
    assert "--lr 2e-5" in changes  # a fifth of this run's
    assert "--warmup-steps" not in changes and "--clip-norm" not in changes  # it had both
    before = lines_of(COLLAPSED, grad_norm=lambda step: 3.1 if step == 20 else 0.02)  # the start, not the collapse
    assert "learning-rate" not in causes_of(report_of(tmp_path / "before", before))


def test_updates_and_weights_that_are_too_large(tmp_path):
    lines = lines_of(COLLAPSED)
    trunks = [line["groups"]["fine.trunk"] for line in lines if line["event"] == "health"]
    trunks[6]["update_ratio"], trunks[6]["weight_norm"] = 0.05, 4000.0
    found = report_of(tmp_path / "run", lines, warmup_steps=0, clip_norm=0.0)
    evidence = evidence_of(found, "learning-rate")
    assert "updates of fine.trunk are 0.05 of its weights at step 700" in evidence
    assert "fine.trunk grew from 12 to 4e+03 by step 700" in evidence
    assert "--clip-norm 0" in evidence and "--warmup-steps 0" in evidence
    changes = " ".join(found.changes)
    assert "--warmup-steps 500" in changes and "--clip-norm 1" in changes
    late = lines_of(COLLAPSED)
    [line["groups"]["fine.trunk"] for line in late if line["event"] == "health"][8]["update_ratio"] = 0.05
    assert "learning-rate" not in causes_of(report_of(tmp_path / "late", late))  # after the collapse: not its cause


def test_a_rate_that_is_only_high_is_only_possible(tmp_path):
    found = report_of(tmp_path / "run", lines_of(COLLAPSED), lr=5e-4)
    assert causes_of(found) == {"learning-rate": "POSSIBLE", "unexplained": "POSSIBLE"}
    assert found.status == "failed" and found.verdict.startswith("Failed: ")
    for said in ("57 %", "did not recover", "by 10.2 dB", "20.70 dB at epoch 6", "10.50 dB"):
        assert said in found.verdict
    evidence = evidence_of(found, "learning-rate")
    assert "--lr 0.0005" in evidence and "256 units" in evidence
    assert "learning-rate" not in causes_of(
        report_of(tmp_path / "narrow", lines_of(COLLAPSED), lr=5e-4, hidden_width=64)
    )


@pytest.mark.parametrize(
    ("activation", "said"), [("relu", "has no gradient"), ("softplus", "has a gradient everywhere")]
)
def test_a_dead_density(tmp_path, activation, said):
    lines = lines_of(BLANK, empty_rays=1.0, opaque_rays=0.0)
    found = report_of(tmp_path / "run", lines, density_activation=activation)
    assert causes_of(found) == {"dead-density": "SHOWN"}
    evidence = evidence_of(found, "dead-density")
    assert "100% of the rays are empty at step 1000" in evidence and "70%" in evidence
    assert f"--density-activation {activation}" in evidence and said in evidence
    assert ("--density-activation softplus" in " ".join(found.changes)) == (activation == "relu")
    empty = lines_of(BLANK, empty_rays=0.99, opaque_rays=0.0, alpha=0.01)  # as the images are
    assert "dead-density" not in causes_of(report_of(tmp_path / "empty", empty))


def test_a_saturated_density(tmp_path):
    found = report_of(tmp_path / "run", lines_of(BLANK, empty_rays=0.0, opaque_rays=1.0))
    assert causes_of(found) == {"saturated-density": "LIKELY"}
    photographs = report_of(tmp_path / "photographs", lines_of(BLANK, empty_rays=0.0, opaque_rays=1.0, alpha=1.0))
    assert "saturated-density" not in causes_of(photographs)


def test_batches_that_are_far_better_than_test_views(tmp_path):
    found = report_of(tmp_path / "run", lines_of(BLANK, mse=10**-2.4), background="white")
    assert causes_of(found) == {"background-mismatch": "LIKELY"}
    evidence = evidence_of(found, "background-mismatch")
    for said in ("epoch 10", "24.0 dB", "10.5 dB", "13.5 dB", "10.0 dB", "--background white"):
        assert said in evidence
    easy = lines_of(BLANK, mse=10**-2.4, blank_mse=10**-2.4)  # crops that are all background
    assert "background-mismatch" not in causes_of(report_of(tmp_path / "easy", easy))


def test_a_blank_picture_that_no_number_explains(tmp_path):
    found = report_of(tmp_path / "run", lines_of(BLANK), density_activation="relu", background="white")
    assert found.status == "failed" and causes_of(found) == {"blank-page": "POSSIBLE"}
    evidence = evidence_of(found, "blank-page")
    assert "10 of 10 evaluations" in evidence and "1 dB" in evidence and "--density-activation relu" in evidence
    assert found.changes[0].endswith("--density-activation softplus")
    assert found.changes[1].endswith("--background random")


def test_a_plateau_not_far_above_blank(tmp_path):
    found = report_of(tmp_path / "run", lines_of([12.0, *[12.4] * 9]))
    assert found.status == "unfinished" and "by 1.9 dB" in found.verdict
    assert causes_of(found) == {"unexplained": "POSSIBLE"}


@pytest.mark.parametrize(
    "name", ["non-finite", "dead-density", "saturated-density", "exploding-gradients", "optimizer-reset"]
)
def test_a_fault_that_the_watchdog_reported_comes_first(tmp_path, name):
    lines = [*lines_of(COLLAPSED), watchdog(1000, name, evidence={"grad_norm": 812.25})]
    found = report_of(tmp_path / "run", lines, lr=5e-4)
    assert found.causes[0].name == name and found.causes[0].certainty.name == "SHOWN"
    evidence = evidence_of(found, name)
    assert f"step 1000: words about {name}" in evidence and "grad_norm 812.2" in evidence
    assert "watchdog stopped the run" in found.verdict


def test_wrong_gradients_in_our_own_runs(tmp_path):
    """It is a cause if even calls of the run's own size are wrong; otherwise it is only an event."""
    evidence = {"rows_wrong": 32768, "error": 3e4, "rows_used": 32766, "torch": "2.13.0", "device": "mps"}
    cut = [watchdog(0, "wrong-matmul", "warn", evidence=evidence), *lines_of(COLLAPSED)]
    found = report_of(tmp_path / "cut", cut)
    assert "wrong-matmul" not in causes_of(found)
    assert any("wrong-matmul at step 0 (warned)" in sentence for sentence in found.sentences)
    hit = [watchdog(0, "wrong-matmul", "warn", evidence=evidence | {"rows_wrong": 1024}), *lines_of(COLLAPSED)]
    found = report_of(tmp_path / "hit", hit)
    assert found.causes[0].name == "wrong-matmul" and found.causes[0].certainty.name == "SHOWN"
    evidence = evidence_of(found, "wrong-matmul")
    assert "at 1024 rows" in evidence and "32766 rows" in evidence


def test_a_rollback_and_its_recovery(tmp_path):
    """Steps go back and seconds go on. The report says that the recovery followed a rollback."""
    lines = lines_of((12.0, 15.0, 17.0, 9.0))
    again = [line | {"train_seconds": line["train_seconds"] + 10} for line in lines_of((12.0, 15.0, 17.2, 18.0, 19.0))]
    back = watchdog(400, "collapse", "rollback", to_step=200, lr_scale=0.5)
    found = report_of(tmp_path / "run", [*lines, back, *(line for line in again if line["step"] > 200)])
    assert [phase.kind for phase in found.phases] == ["improving", "collapse", "recovered", "improving"]
    (recovered,) = (sentence for sentence in found.sentences if "recovered" in sentence)
    for said in ("epoch 3", "after a rollback", "17.20 dB"):
        assert said in recovered
    assert any("collapse at step 400 (rolled back to step 200, learning rate x 0.5)" in s for s in found.sentences)
    assert found.status == "good" and "collapsed" not in found.verdict
    steps = [point.steps for point in found.record.evals]
    assert steps == sorted(steps) and steps[-1] == 700


def test_a_hash_grid_gets_no_advice_that_it_has_no_option_for(tmp_path):
    lines = [*lines_of(COLLAPSED), watchdog(1000, "exploding-gradients")]
    found = report_of(tmp_path / "run", lines, field="hashgrid")
    assert found.causes and not any("--clip-norm" in change or "--preset" in change for change in found.changes)


def test_every_change_names_options_that_exist(tmp_path):
    """The words after -- are options of ``nerf-metal train``."""
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    names = ["non-finite", "dead-density", "saturated-density", "exploding-gradients", "optimizer-reset"]
    changes = ""
    for i, (psnr, train) in enumerate([(COLLAPSED, {}), (BLANK, {"mse": 1e-3}), (BLANK, {}), (HEALTHY, {})]):
        lines = [*lines_of(psnr, **train), *(watchdog(1000, name, "warn") for name in (names if i == 0 else []))]
        record = read_record(write_run(tmp_path / str(i), lines, lr=5e-4, density_activation="relu"))
        changes += " ".join(change for cause in find_causes(record, judge(record)) for change in cause.changes)
    options = set(re.findall(r"--([a-z-]+)", changes))
    assert {"lr", "clip-norm", "background", "resume", "density-activation"} <= options
    assert {option.replace("-", "_") for option in options} <= known
