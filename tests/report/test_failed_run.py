"""The report of the failed run that the project starts from says what is known about it, and no more."""

import base64
import html
import re

import pytest

from nerf_metal import report
from nerf_metal.cli import main
from tests.report.failed_run import write_failed_run

VALUES = (
    "inconsistent before epoch 350",
    "0.105",  # the MSE of 9.80 dB
    "0.260",  # the MSE in the record
    "between epochs 300 and 350",
    "5.47 dB (56 %)",
    "from 9.80 to 4.33 dB",
    "did not recover: in the 3 evaluations",
    "4.42 dB",
    "mid-grey from epoch 350 to epoch 500",
    "131 072 and 393 216 rows",
    "The version of torch and the chip are not recorded",
)
VERDICTS = {
    9.5: ("never better than a blank picture by more than 0.3 dB", "9.80 dB at epoch 300", "9.50 dB"),
    10.7: ("never better than a blank picture", "9.80 dB at epoch 300", "10.70 dB"),
}


def words(text: str) -> str:
    """Return a text without line breaks and markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).replace("**", "").split())


@pytest.mark.parametrize("blank", VERDICTS)
def test_both_files_say_what_happened(tmp_path, blank):
    """The blank picture is white, or each view's mean colour."""
    folder = write_failed_run(tmp_path / "run", blank)
    report.write_report(folder)
    for path in (folder.summary, folder.report):
        text = words(path.read_text())
        for said in ("Failed: ", *VERDICTS[blank], "collapsed by 56 %", *VALUES):
            assert said in text, (path.name, said)


def test_phases_and_causes(tmp_path):
    """Torch's fault comes first, since the sizes fit it. No cause is more than possible, since no norms are
    recorded."""
    found = report.write_report(write_failed_run(tmp_path / "run", 9.5))
    phases = [(phase.kind, round(phase.change_db, 2)) for phase in found.phases]
    assert phases == [("improving", 1.6), ("collapse", -5.47), ("plateau", -0.02)]
    assert [row[1] for row in found.phase_table.rows] == ["50 to 300", "300 to 350", "350 to 500"]
    assert [cause.name for cause in found.causes] == ["wrong-matmul", "learning-rate", "blank-page"]
    assert {cause.certainty.name for cause in found.causes} == {"POSSIBLE"}


@pytest.mark.parametrize(
    ("about", "certainty"),
    [
        ({"versions": {"torch": "2.13.0"}}, "LIKELY"),
        ({"versions": {"torch": "2.14.0"}}, None),
        ({"device": "cuda"}, None),
        ({"device": None}, None),
        ({"versions": {"torch": "2.13.0", "nerf_metal": "0.1.0"}}, None),  # ours cuts to fewer rows
    ],
)
def test_torchs_bug_is_named_where_it_can_be(tmp_path, about, certainty):
    """Only on MPS, before 2.14, and not for a run of nerf_metal, whose calls are too small."""
    found = report.write_report(write_failed_run(tmp_path / "run", 9.5, **about))
    names = {cause.name: cause.certainty.name for cause in found.causes}
    assert names.get("wrong-matmul") == certainty
    if about.get("device", "mps") is None:
        assert any("device is not recorded" in sentence for sentence in found.unknown)


def test_a_record_without_a_blank_picture(tmp_path):
    """The report then neither praises nor blames the run for it."""
    found = report.write_report(write_failed_run(tmp_path / "run", None))
    assert found.status == "failed" and "9.80 dB at epoch 300" in found.verdict
    assert "blank_psnr is missing" in found.verdict and "better than" not in found.verdict
    assert "blank-page" not in {cause.name for cause in found.causes}


def test_the_page_needs_no_other_file(tmp_path):
    """The pictures are inside, and there is no address and nothing to load."""
    folder = write_failed_run(tmp_path / "run", 9.5)
    report.write_report(folder)
    page = folder.report.read_text()
    sources = re.findall(r"""(?:src|href|url|@import)\s*[=(]?\s*['"]?([^'"\s>)]+)""", page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?:|<script|<link", page)
    assert base64.b64decode(sources[0].partition(",")[2]) == folder.scores_plot.read_bytes()


def test_the_command_prints_and_writes(tmp_path, capsys):
    """It prints verdict, phases and causes in 80 columns and writes the files. It exits with 0 for a failed run, 2 for
    none."""
    folder = write_failed_run(tmp_path / "run", 9.5)
    assert main(["report", str(folder.path)]) == 0
    printed = capsys.readouterr().out
    assert all(said in words(printed) for said in VERDICTS[9.5]) and "| collapse  | 300 to 350 |" in printed
    assert "1. torch before 2.14 computes wrong weight gradients" in printed
    for name in ("SUMMARY.md", "report.html", "psnr_ssim.png", "training_losses.png"):
        assert str(folder.path / name) in printed and (folder.path / name).stat().st_size > 0
    assert all(len(line) <= 80 for line in printed.splitlines() if str(tmp_path) not in line)
    assert all(len(line) <= 80 for line in folder.summary.read_text().splitlines() if not line.startswith("!["))
    assert not list(folder.path.glob(".*.tmp"))
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: [report] ") and f", got {tmp_path}; " in error
    assert error.count("\n") == 1
