"""The ablation: what its numbers are called, what is concluded from them, and that its runs are what they say."""

import argparse
import dataclasses
import json
import sys

import pytest
import torch

from benchmarks import ablation
from benchmarks.ablation_report import BEGIN, END, Run, conclusions, section, table, write_section
from nerf_metal.train.options import TrainConfig
from nerf_metal.util.errors import InputError


def made(variant: str, *psnr: float, seed: int = 0, faults: tuple[str, ...] = ()) -> Run:
    return Run(variant, f"says {variant}", seed, list(range(len(psnr))), list(psnr), 10.0, list(faults), 1.0)


ABOUT = {
    "scene": None,
    "size": 50,
    "steps": 9,
    "width": 8,
    "seeds": 2,
    "torch": "2.13.0",
    "minutes": 1.0,
    "machine": {"logical_cores": 2},
}


def test_outcomes():
    assert made("a", 9.0, 20.0, 18.0).outcome == "trained"
    assert made("a", 9.0, 10.4).outcome == "blank plateau"
    assert made("a", 9.8, 4.3).outcome == "collapse"
    assert made("a", 20.0, 16.9).outcome == "collapse"
    assert made("a", 20.0, faults=("non-finite",)).outcome == made("a").outcome == "not finite"


def test_conclusions_say_what_the_numbers_show_and_no_more():
    runs = [made("control", 15.0, 20.0), made("control", 14.0, 19.0, seed=1)]
    runs += [made("lr", 15.0, 20.5), made("lr", 15.0, 18.0, seed=1)]
    runs += [made("relu", 10.0, 10.0), made("relu", 12.0, 19.0, seed=1)]
    said = conclusions(runs)
    assert said[0] == "Stuck near a blank picture for ever (10.0 dB here): *relu* (1 of 2 seeds)."
    assert said[1] == "Lost 3 dB and more, not regained at the end: none of them."
    text = " ".join(said)
    assert "control trained with every seed: 19.5 dB, seeds 1.0 dB apart" in text
    assert "*lr* stopped no run: -0.2 dB against the control, within the spread" in text
    assert "*relu* stopped no" not in text  # it stopped one
    late = [*runs, made("late", 20.0, 4.3), made("late", 20.0, 19.0, seed=1)]
    assert "*late* (1 of 2 seeds)" in conclusions(late)[1]
    assert conclusions(late)[2].startswith("*late* ended 1.0 to 15.7 dB below its own best; the greatest fall from one")
    assert "was 15.7 dB, between steps 0 and 1." in conclusions(late)[2]
    broken = [made("control", 10.0, 10.0), made("lr", 15.0, 20.0)]
    assert "stopped no run" not in " ".join(conclusions(broken))  # nothing to compare with


def test_table_has_a_row_for_each_variant():
    rows = table([made("control", 9.0, 20.0), made("lr", 9.0, 12.5, faults=("collapse",))]).splitlines()
    assert len(rows) == 4 and rows[3] == "| lr | says lr | 1 |  |  |  | 12.5 | 12.5 | collapse |"


def test_a_section_is_replaced_between_its_marks(tmp_path):
    path = tmp_path / "failure.md"
    path.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    write_section(path, section([made("control", 9.0, 20.0)], ABOUT))
    text = path.read_text()
    assert text.startswith(f"above\n{BEGIN}\nthe package's own scene") and text.endswith(f"{END}\nbelow\n")
    assert "old" not in text
    path.write_text("no marks")
    with pytest.raises(InputError, match="must hold the marks"):
        write_section(path, "x")


def test_each_variant_changes_what_it_says():
    """One thing at a time: an option that the control has too would show nothing."""
    options = argparse.Namespace(data=None, downscale=16, steps=1500, width=64)
    control = ablation.control(options, 0)
    for name, variant in ablation.VARIANTS.items():
        changed = dataclasses.replace(control, **variant.options)
        different = {
            f.name for f in dataclasses.fields(TrainConfig) if getattr(control, f.name) != getattr(changed, f.name)
        }
        assert different == set(variant.options), name
        assert name == "control" or different or variant.corrupted_from is not None or variant.mismatch
    assert control.batch_rays * control.num_samples >= ablation.CORRUPTED_ROWS


def test_images_without_their_alpha(cube_scene):
    """Black where nothing was, and nothing to tell it from black content."""
    before, after = (scene.splits["train"].images for scene in (cube_scene, ablation.over_black(cube_scene)))
    assert int(after[..., 3].min()) == 255
    empty = before[..., 3] == 0
    assert empty.any() and not after[empty][:, :3].any()
    assert torch.equal(after[before[..., 3] == 255], before[before[..., 3] == 255])
    assert ablation.over_black(cube_scene).splits["test"] is cube_scene.splits["test"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "error: [ablation] --seeds must be at least 1, got 0; "),
        (["--write", "nowhere"], "error: [ablation] nowhere/failure.md must hold the marks "),
    ],
)
def test_bad_input_comes_before_the_work(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ablation", *words])
    assert ablation.main() == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


@pytest.mark.slow
def test_a_whole_ablation(tmp_path, monkeypatch, capsys):
    """Tiny nets, few steps: every file is written, and the corruption is seen by the self-test where it may."""
    (tmp_path / "failure.md").write_text(f"{BEGIN}\n{END}\n")
    words = ["--variants", "control", "corrupted, cured", "--seeds", "1", "--steps", "30", "--width", "16"]
    words += ["--downscale", "50", "--processes", "1", "--out", str(tmp_path), "--write", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["ablation", *words])
    assert ablation.main() == 0
    runs = json.loads((tmp_path / "ablation.json").read_text())["runs"]
    assert [run["variant"] for run in runs] == ["control", "corrupted, cured"]
    assert [run["faults"] for run in runs] == [[], ["wrong-matmul"]]
    assert len(runs[0]["steps"]) == ablation.EVALUATIONS
    assert "| corrupted, cured |" in (tmp_path / "failure.md").read_text() and (tmp_path / "ablation.png").exists()
    assert "control" in capsys.readouterr().out
