"""A report can be made of any record: unfinished, old, typed in or damaged."""

import base64
import json
import re

import imageio.v3 as iio
import numpy as np
import pytest

from nerf_metal import report
from nerf_metal.cli import main
from nerf_metal.report.record import read_record
from nerf_metal.util.errors import InputError
from tests.report.runs import HEALTHY, lines_of, report_of, watchdog, write_run


def files_of(folder) -> tuple[str, str]:
    return folder.summary.read_text(), folder.report.read_text()


def test_a_run_that_never_got_to_an_evaluation(tmp_path):
    """A run that was killed at once, or after some steps: the report says so, and all files are written."""
    folder = write_run(tmp_path / "nothing", [])
    found = report.write_report(folder)
    assert found.status == "unknown" and "no evaluation" in found.verdict
    assert "Nothing is recorded yet" in files_of(folder)[0]
    assert folder.scores_plot.exists() and folder.losses_plot.exists()
    folder = write_run(tmp_path / "steps", [line for line in lines_of(HEALTHY[:2]) if line["event"] == "train"])
    found = report.write_report(folder)
    assert any("200 of 1000 steps are recorded" in sentence for sentence in found.sentences)
    assert found.phases == () and found.progress.rows == ()


def test_a_run_by_time_is_measured_by_time(tmp_path):
    found = report_of(tmp_path / "run", lines_of(HEALTHY), steps=None, max_seconds=400.0)
    assert any("100 of 400 seconds are recorded" in sentence for sentence in found.sentences)
    done = report_of(tmp_path / "done", lines_of(HEALTHY), steps=None, max_seconds=100.0)
    assert not any("recorded" in sentence for sentence in done.sentences)


def test_the_last_line_may_be_cut_off_and_no_other(tmp_path):
    """kill -9 in the middle of a write."""
    folder = write_run(tmp_path / "run", lines_of(HEALTHY[:3]))
    whole = folder.metrics.read_bytes()
    folder.metrics.write_bytes(whole[:-30])
    record = read_record(folder)
    assert len(record.evals) == 3 and len(record.health) == 2
    folder.metrics.write_bytes(whole + b'{"event": "eval", "note": "\xc3')  # in the middle of a character
    assert len(read_record(folder).health) == 3
    folder.metrics.write_bytes(b"{oops\n" + whole)
    with pytest.raises(InputError, match=r"line 1 of .*metrics.jsonl must be .*, got '{oops'"):
        read_record(folder)


def test_the_command_refuses_a_damaged_record_in_one_line(tmp_path, capsys):
    folder = write_run(tmp_path / "run", lines_of(HEALTHY[:3]))
    folder.metrics.write_text("[]\n" + folder.metrics.read_text())
    assert main(["report", str(folder.path)]) == 2
    assert capsys.readouterr().err.startswith("error: [metrics] line 1 of ")


def test_the_report_names_what_older_lines_lack(tmp_path):
    """Runs of a version before the health lines."""
    new = {"grad_norm", "empty_rays", "opaque_rays", "alpha", "blank_mse"}
    lines = [{k: v for k, v in line.items() if k not in new} for line in lines_of(HEALTHY, health=False)]
    found = report_of(tmp_path / "run", lines)
    assert found.status == "good" and found.health.rows == ()
    assert any("Gradient norms are not recorded" in sentence for sentence in found.unknown)


def test_evaluations_typed_in_without_step_event_or_config(tmp_path):
    """An epoch and a PSNR are enough; a bare PSNR counts as an evaluation too."""
    folder = write_run(tmp_path / "run", [{"epoch": e, "psnr": 10.0 + e} for e in (1, 2, 3)])
    (folder.path / "config.json").write_text(json.dumps({"kind": "nerf_metal run", "config": {}}))
    found = report.write_report(folder)
    assert found.title == "run" and found.progress.head == ("epoch", "PSNR")
    assert ("device", "not recorded") in found.machine and ("torch", "not recorded") in found.machine
    bare = report_of(tmp_path / "bare", [{"psnr": 10.0}, {"psnr": 20.0}])
    assert [row[1] for row in bare.phase_table.rows] == ["1 to 2"] and bare.phase_table.head[1] == "evaluations"


def test_values_of_another_type_count_as_missing(tmp_path):
    """Text, null, true and infinity neither crash the report nor become numbers."""
    lines = [{"event": "eval", "epoch": 1, "psnr": 10.0, "mse": None, "ssim": "good", "blank_psnr": True}]
    lines += [{"event": "eval", "epoch": 1.5, "psnr": 12.0, "views": [1]}, {"event": "party"}]
    folder = write_run(tmp_path / "run", lines)
    with folder.metrics.open("a") as file:
        file.write('{"event": "train", "step": 1, "loss": Infinity}\n{"event": "eval", "epoch": 3, "psnr": NaN}\n')
    record = read_record(folder)
    first, second = record.evals
    assert (first.mse, first.ssim, first.blank_psnr, second.epoch) == (None, None, None, None)
    assert record.train[0].loss is None and record.not_finite == ("epoch 3",)
    found = report.write_report(folder)
    assert found.status == "failed" and found.causes[0].name == "non-finite"


@pytest.mark.parametrize(
    ("mse", "words"),
    [
        ([0.1, 0.05, 0.02], None),  # 10, 13, 17 dB
        ([0.2, 0.1, 0.03], None),  # as far below as views that differ by 5 dB can cause
        ([0.1, 0.05, 0.05], "at epoch 3"),  # 17 dB where the mean error allows 13 to 16
        ([0.08, 0.05, 0.02], "before epoch 2"),  # a mean of PSNRs is never below the PSNR of the mean
        ([0.1, 0.04, 0.02], "at epoch 2"),
        ([1.0, 1.0, 1.0], "at every evaluation"),
        ([0.1, 0.5, 0.5], "from epoch 2 to epoch 3"),
    ],
)
def test_psnr_and_mse_must_fit(tmp_path, mse, words):
    """They may differ by the rounding and by the spread over views."""
    lines = [
        {"epoch": i, "psnr": p, "mse": m} for i, (p, m) in enumerate(zip((10.0, 13.01, 16.99), mse, strict=True), 1)
    ]
    found = [s for s in report_of(tmp_path / "run", lines).sentences if "inconsistent" in s]
    assert [s.partition(" are inconsistent ")[2].partition(":")[0] for s in found] == ([words] if words else [])


def test_steps_where_evaluations_share_an_epoch(tmp_path):
    lines = lines_of(HEALTHY)
    for line in lines:
        line["epoch"] = 0
    found = report_of(tmp_path / "run", lines)
    assert found.phase_table.head[1] == "steps" and found.phase_table.rows[0][1] == "100 to 1000"


def test_the_progress_of_a_long_run_fits_a_screen(tmp_path):
    """Of 200 evaluations, the table has the first, the last, the best and the ends of phases."""
    psnr = [20 - 10 * 0.97**i for i in range(120)] + [7.0] * 80
    found = report_of(tmp_path / "run", lines_of(psnr, health=False))
    epochs = [row[0] for row in found.progress.rows]
    assert len(epochs) <= 24 and {"1", "120", "121", "200"} <= set(epochs)


def test_a_full_report_fits_a_terminal_and_escapes(tmp_path):
    """The report has watchdog, health, notes and pictures, and no text of a run becomes markup."""
    event = watchdog(600, "collapse", "warn", sentence="PSNR <b>fell</b>", evidence={"best": 23.456789})
    folder = write_run(tmp_path / "run", [*lines_of(HEALTHY), event])
    about = json.loads((folder.path / "config.json").read_text())
    about |= {"notes": ["made for a test, with quite a long sentence about what was found in the data & left out"]}
    about |= {"machine": {"chip": "Apple M1", "memory_gib": 16}}
    (folder.path / "config.json").write_text(json.dumps(about))
    for epoch in (1, 10):
        iio.imwrite(folder.path / f"quick_render_epoch_{epoch:02d}.png", np.full((30, 1600, 3), 9 * epoch, np.uint8))
    (folder.path / "quick_render_epoch_05.png").write_bytes(b"half a pict")  # being written
    found = report.write_report(folder)
    assert [caption for caption, _ in found.pictures] == ["first: epoch 1", "best and last: epoch 10"]
    summary, page = files_of(folder)
    assert all(len(line) <= 80 or str(tmp_path) in line for line in summary.splitlines())
    assert "| fine.trunk |" in summary and "made for a test" in summary and "best 23.46" in summary
    assert "PSNR &lt;b&gt;fell" in page and "<b>fell" not in page and "data &amp; left out" in page
    render = re.findall(r'src="data:image/png;base64,([^"]+)"', page)[-1]
    assert iio.imread(base64.b64decode(render)).shape[1] == 760
    assert "memory [GiB]" in page and "Apple M1" in page
