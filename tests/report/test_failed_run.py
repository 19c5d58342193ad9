"""The report of the run that the project starts from says what is known about it, and no more."""

import base64
import html
import re

import pytest

from nerf_metal import report
from nerf_metal.cli import main
from tests.report.failed_run import write_failed_run

SENTENCES = (
    "PSNR and MSE are inconsistent before epoch 350: 9.80 dB is MSE 0.105, the record says 0.260.",
    "Collapse between epochs 300 and 350: PSNR fell by 5.47 dB (56 %), from 9.80 to 4.33 dB.",
    "No recovery: in the 3 evaluations after it PSNR never exceeded 4.42 dB (9.80 before).",
    "Worse than mid-grey from epoch 350 to epoch 500 (4.31 dB at worst)",
    "a step's weight gradients reduce over 131 072 and 393 216 rows",
    "torch's version and the chip are not recorded",
)
VERDICTS = {
    9.5: "Failed: never better than a blank picture by more than 0.3 dB: its best is 9.80 dB at epoch 300, a blank "
    "picture has 9.50 dB; collapsed by 56 % and did not recover.",
    10.7: "Failed: never better than a blank picture: its best is 9.80 dB at epoch 300, a blank picture has 10.70 dB; "
    "collapsed by 56 % and did not recover.",
}


def words(text: str) -> str:
    """Without line breaks and markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).replace("**", "").split())


@pytest.mark.parametrize("blank", VERDICTS)
def test_both_files_say_what_happened(tmp_path, blank):
    """Against an all-white page and against each view's mean colour."""
    folder = write_failed_run(tmp_path / "run", blank)
    report.write_report(folder)
    for path in (folder.summary, folder.report):
        text = words(path.read_text())
        for sentence in (VERDICTS[blank], *SENTENCES):
            assert sentence in text, (path.name, sentence)


def test_phases_and_causes(tmp_path):
    """Torch's bug first, since the sizes fit it; nothing is more than possible, since nothing was measured."""
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
    """Only on MPS, before 2.14, and not for a run of our own, whose calls are too small."""
    found = report.write_report(write_failed_run(tmp_path / "run", 9.5, **about))
    names = {cause.name: cause.certainty.name for cause in found.causes}
    assert names.get("wrong-matmul") == certainty
    if about.get("device", "mps") is None:
        assert "the device is not recorded: whether torch computes right there cannot be judged" in found.unknown


def test_without_a_blank_picture_nothing_is_said_of_it(tmp_path):
    """Not known is not bad, and not good."""
    found = report.write_report(write_failed_run(tmp_path / "run", None))
    assert found.verdict == (
        "Failed: collapsed by 56 % and did not recover; whether it beats a blank picture is not known (blank_psnr is "
        "not recorded); its best is 9.80 dB at epoch 300."
    )
    assert "blank-page" not in {cause.name for cause in found.causes}


def test_the_page_needs_no_other_file(tmp_path):
    """Pictures inside, no address, nothing to load."""
    folder = write_failed_run(tmp_path / "run", 9.5)
    report.write_report(folder)
    page = folder.report.read_text()
    sources = re.findall(r"""(?:src|href|url|@import)\s*[=(]?\s*['"]?([^'"\s>)]+)""", page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?:|<script|<link", page)
    assert base64.b64decode(sources[0].partition(",")[2]) == folder.scores_plot.read_bytes()


def test_the_command_prints_and_writes(tmp_path, capsys):
    """Verdict, phases, causes in 80 columns, the files; exit 0 for a run that failed, 2 for no run."""
    folder = write_failed_run(tmp_path / "run", 9.5)
    assert main(["report", str(folder.path)]) == 0
    printed = capsys.readouterr().out
    assert VERDICTS[9.5] in words(printed) and "| collapse  | 300 to 350 |" in printed
    assert "1. torch before 2.14 computes wrong weight gradients" in printed
    for name in ("SUMMARY.md", "report.html", "psnr_ssim.png", "training_losses.png"):
        assert str(folder.path / name) in printed and (folder.path / name).stat().st_size > 0
    assert all(len(line) <= 80 for line in printed.splitlines() if str(tmp_path) not in line)
    assert all(len(line) <= 80 for line in folder.summary.read_text().splitlines() if not line.startswith("!["))
    assert not list(folder.path.glob(".*.tmp"))
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: [report] the run must be a folder with a config.json, got ")
    assert error.count("\n") == 1
