"""nerf-metal eval: the same numbers in every form, a picture of the best and the worst, no more memory than that."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from nerf_metal.cli import main
from nerf_metal.cli.eval import _ranks, _table
from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.photos import PhotoSource, open_photos
from nerf_metal.data.scene import Split
from nerf_metal.models.pixels import RenderedPixels
from nerf_metal.report.comparison import GAP, GREATEST_ERROR, LINE, PANEL, save_comparison
from nerf_metal.report.tables import shorten
from nerf_metal.train.evaluation import Evaluation, ViewScore, best_and_worst, evaluate
from tests.cli.test_cli import TINY

CPU = torch.device("cpu")
SIZES = [(30, 20), (20, 30), (16, 16), (45, 12), (12, 45), (20, 30), (30, 20)]  # portrait, landscape, square


@pytest.fixture
def photographs(tmp_path) -> Split:
    """Grey photographs of several sizes, each with its own camera."""
    files = [tmp_path / f"{i}.png" for i in range(len(SIZES))]
    for file, (height, width) in zip(files, SIZES, strict=True):
        Image.new("RGB", (width, height), (128, 128, 128)).save(file)
    photos = open_photos([PhotoSource(file, None, None) for file in files], downscale=1, max_bytes=10**6)
    cameras = [Intrinsics.from_fov_x(1.0, width, height) for height, width in SIZES]
    poses = torch.eye(4).repeat(len(SIZES), 1, 1)
    names = [f"images/{i}" for i in range(len(SIZES))]
    return Split("test", photos, poses, cameras, names, has_alpha=False)


def off_by(errors: list[float]):
    """A renderer whose pictures are grey and wrong by so much, one after the other."""
    left = iter(errors)

    def render(rays_o, rays_d, background):
        return RenderedPixels(torch.full_like(rays_o, 128 / 255 + next(left)), rays_o[:, 0], rays_o[:, 0])

    return render


def test_only_the_pictures_to_show_are_kept(photographs):
    """The two best and the two worst, found on the way; of a quick render the first three. Every size of one split."""
    errors = [0.1, 0.3, 0.02, 0.2, 0.05, 0.4, 0.25]
    alive = []

    def best_and_worst_so_far(views):
        alive.append(sum(view.pictures is not None for view in views))
        return best_and_worst(views)

    result = evaluate(off_by(errors), photographs, range(7), background="white", device=CPU, keep=best_and_worst_so_far)
    assert max(alive) == 5  # the four so far, and the one just measured
    assert [view.psnr for view in result.views] == pytest.approx([-20 * np.log10(error) for error in errors], abs=1e-3)
    kept = [view.name for view in result.views if view.pictures]
    assert kept == ["images/1", "images/2", "images/4", "images/5"]
    assert [view.name for view in best_and_worst(result.views)] == ["images/2", "images/4", "images/1", "images/5"]
    assert all(view.prediction.shape == (*SIZES[int(view.name[7:])], 3) for view in best_and_worst(result.views))
    first = evaluate(off_by(errors), photographs, range(7), background="white", device=CPU).views
    assert [view.pictures is not None for view in first] == [True] * 3 + [False] * 4


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, ["best"]),
        (2, ["best", "worst"]),
        (3, ["best", "2nd best", "worst"]),
        (9, ["best", "2nd best", "2nd worst", "worst"]),
    ],
)
def test_ranks_of_few_views(count, expected):
    """Nobody is both best and worst."""
    views = [score(f"{i}", psnr=float(i)) for i in range(count)]
    shown = best_and_worst(views)
    assert [view.psnr for view in shown] == sorted((view.psnr for view in shown), reverse=True)
    assert shown[0] is views[-1] and (count == 1 or shown[-1] is views[0])
    assert list(_ranks(shown).values()) == expected


def score(name: str, psnr: float = 20.0, error: float = 0.1, size: tuple[int, int] = (12, 16)) -> ViewScore:
    """A view whose picture is black and whose prediction is off by ``error``."""
    truth = torch.zeros(*size, 3)
    return ViewScore(name, 0.01, psnr, 0.5, 10.0, None, (truth + error, truth))


def test_the_picture_shows_prediction_truth_and_difference(tmp_path):
    """Each view in its own row and shape; the colours of errors are the scale's: half of it, its end, and beyond."""
    views = [
        score("a", error=GREATEST_ERROR / 2, size=(12, 16)),
        score("b", error=0.2, size=(880, 440)),  # halved
        score("c", error=0.9, size=(40, 20)),
    ]
    path = tmp_path / "evaluation.png"
    save_comparison(path, [(view.name, view) for view in views])
    picture = iio.imread(path)
    height, width = picture.shape[:2]
    column = (width - 4 * GAP) // 3 + GAP
    sizes = [(12 * 27, 16 * 27), (PANEL, PANEL // 2), (40 * 11, 20 * 11)]
    top = GAP + LINE
    for view, (rows, columns) in zip(views, sizes, strict=True):
        error = float(view.prediction.max())
        label, panels = picture[top : top + LINE], picture[top + LINE : top + LINE + rows]
        assert int(label.min()) < 64  # there is text
        wanted = (
            np.full(3, round(255 * error)),
            np.zeros(3),
            np.round(np.array(colormaps["inferno"](min(error / GREATEST_ERROR, 1.0))[:3]) * 255),
        )
        for place, colour in enumerate(wanted):
            left = GAP + place * column
            panel = panels[:, left : left + columns]
            assert np.abs(panel.reshape(-1, 3) - colour).max() <= 1, (view.name, place)
            assert (panels[:, left + columns : left + column - GAP] == 255).all()
        top += LINE + rows + GAP
    scale = picture[top + 4, 2 * column + GAP :]
    for end in (0.0, 1.0):  # the scale is drawn below
        assert (np.abs(scale - np.array(colormaps["inferno"](end)[:3]) * 255).max(-1) <= 1).any()
    assert height == top + LINE + GAP
    assert list(tmp_path.iterdir()) == [path]


def test_long_names_lose_their_middle():
    """Files of a camera differ at the end; the table stays within 80 columns, with LPIPS and a perfect picture too."""
    assert shorten("short", 5) == "short"
    assert (shorten("abcdefgh", 5), shorten("abcdefgh", 6)) == ("ab…gh", "abc…gh")
    names = [f"images/2024-05-06/photograph_of_a_locomotive_{i:04d}" for i in range(3)]
    views = [score(name, psnr=100.0) for name in names]
    for view in views:
        view.lpips = 0.1234
    table = _table(Evaluation(0.01, 20.0, 0.5, 10.0, 0.1234, views), _ranks(best_and_worst(views)))
    assert max(map(len, table.splitlines())) <= 80
    assert all(f"{i:04d} |" in table for i in range(3)) and "0.123" in table


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of two steps on pictures that LPIPS can measure."""
    folder = tmp_path_factory.mktemp("runs")
    scene = ("--resolution", "32", "--train-views", "2", "--test-views", "5")
    assert main(["make-scene", str(folder / "scene"), *scene]) == 0
    words = ["--data", str(folder / "scene"), "--downscale", "1", "--steps", "2", "--quiet", "--eval-views", "1"]
    assert main(["train", *TINY, *words, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_table_json_and_csv_say_the_same(run, capsys):
    """A line for each view in each, and the fields that others read."""
    assert main(["eval", str(run), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    about = json.loads((run / "evaluation.json").read_text())
    assert {"event", "step", "epoch", "train_seconds", "split", "views", "per_view"} < set(about)
    with (run / "evaluation.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == about["views"] == 5
    for line, view in zip(lines, about["per_view"], strict=True):
        assert line.pop("name") == view.pop("name")
        assert {name: float(value) for name, value in line.items()} == view
        assert f"{view['psnr']:.2f}" in printed
        assert set(view) == {"mse", "psnr", "ssim", "blank_psnr"}
    assert f"PSNR {about['psnr']:.2f} dB" in printed and "mean of 5" in printed
    assert max(len(line) for line in printed.splitlines() if str(run) not in line) <= 80
    worst = min(about["per_view"], key=lambda view: view["psnr"])
    (row,) = (line for line in printed.splitlines() if line.endswith("|     worst |"))
    assert f"{worst['psnr']:.2f}" in row
    assert iio.imread(run / "evaluation.png").shape[0] > 4 * 400  # four rows of 32 pixels, enlarged


def test_a_folder_that_cannot_be_written(run, capsys):
    """One line and exit code 2."""
    (run / "evaluation.csv").unlink(missing_ok=True)
    (run / "evaluation.csv").mkdir()
    try:
        assert main(["eval", str(run), "--views", "1", "--device", "cpu"]) == 2
    finally:
        (run / "evaluation.csv").rmdir()
    error = capsys.readouterr().err
    assert error.startswith("error: [eval] the run folder must be writable, got Is a directory")
    assert error.count("\n") == 1
