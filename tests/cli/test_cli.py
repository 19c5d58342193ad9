"""The command line as a person meets it: help, messages, exit codes, and a run from start to end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nerf_metal.cli import COMMANDS, main

TINY = (
    *(
        "--preset",
        "small",
        "--downscale",
        "50",
        "--hidden-width",
        "8",
        "--depth",
        "2",
        "--batch-rays",
        "32",
        "--num-samples",
        "4",
    ),
    *("--num-importance", "4", "--eval-views", "2", "--device", "cpu"),
)


def command(*args: str, **options) -> subprocess.CompletedProcess:
    """Run ``python -m nerf_metal`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "nerf_metal", *args],
        capture_output=True,
        text=True,
        env=_environment(),
        **options,
    )


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        "COLUMNS": "80",
    }


def test_help_is_quick_and_lists_the_commands():
    """Help of all commands, each under 2 s in the best of two tries (the machine may be busy)."""
    for args in (
        ["--help"],
        ["train", "--help"],
        ["eval", "--help"],
        ["make-scene", "--help"],
        ["doctor", "--help"],
    ):
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            done = command(*args)
            seconds.append(time.perf_counter() - start)
            assert done.returncode == 0 and not done.stderr, done.stderr
        assert min(seconds) < 2
        if args == ["--help"]:
            assert all(name in done.stdout for name in COMMANDS)


def test_importing_the_package_is_cheap():
    """No torch, and far below 0.2 s."""
    code = "import time; t = time.perf_counter(); import nerf_metal; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    assert float(done.stdout) < 0.2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("train", "--steps", "-1"), "error: [train] --steps must be at least 1, got -1; "),
        (
            ("train", "--data", "no/such/folder"),
            "error: [load_scene] path must be an existing folder, got no/such",
        ),
        (
            ("eval", "no/such/run"),
            "error: [eval] the run must be a folder with a config.json, got no/such/run; ",
        ),
        (
            ("trian",),
            "error: [nerf-metal] the command must be one of train, inspect, render, eval, export, view, report, "
            "make-scene, presets, doctor, got trian; ",
        ),
    ],
)
def test_bad_input_in_a_process(args, message, tmp_path):
    """Exit code 2, one line on stderr, no traceback, nothing on stdout, nothing left behind."""
    done = command(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("train", "--preset", "clasic"),
            "--preset must be one of fast, small, classic, baseline, stable, got clasic; did you mean classic?",
        ),
        (("train", "--device", "cuda"), "--device must be available, got cuda: "),
        (("train", "--device", "mps"), "--device must be available, got mps: "),
        (
            ("train", "--device", "cpu", "--backend", "metal"),
            "--backend metal must run on --device mps, got cpu; ",
        ),
        (
            ("train", "--resume", "nowhere"),
            "[train --resume] the run must be a folder with a config.json, got nowhere",
        ),
        (("train", "--downscale", "200"), "--downscale must be at most 100 for the built-in scene, got 200; "),
        (("train", *TINY, "--max-memory", "1e-6"), "--max-memory must be at least "),
        (("eval", "nowhere", "--views", "0"), "[eval] --views must be at least 1, got 0; "),
    ],
)
def test_bad_input(args, message, tmp_path, monkeypatch, capsys):
    """Exit code 2 and one line that names the argument, what was expected, what came and what to do."""
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert main(args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_words_that_are_no_options(capsys):
    """The parser's own refusal also ends with 2 and names the word."""
    with pytest.raises(SystemExit) as stop:
        main(["train", "--stpes", "3"])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert "--stpes" in captured.err + captured.out


def test_train_eval_resume(tmp_path, capsys):
    """A run, its evaluation, its continuation; and a folder that exists is refused."""
    out = str(tmp_path / "run")
    assert main(["train", *TINY, "--steps", "20", "--out", out]) == 0
    printed = capsys.readouterr().out
    assert "eval  step 20  " in printed and "(blank picture: " in printed and out in printed
    assert max(map(len, printed.replace(out, "").splitlines())) <= 80
    assert main(["train", *TINY, "--steps", "20", "--out", out]) == 2
    assert "add --overwrite" in capsys.readouterr().err

    assert main(["eval", out, "--views", "3", "--device", "cpu"]) == 0
    about = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert about["views"] == len(about["per_view"]) == 3 and about["step"] == 20
    assert about["psnr"] == pytest.approx(sum(view["psnr"] for view in about["per_view"]) / 3)
    assert f"{about['psnr']:.2f} dB" in capsys.readouterr().out

    assert main(["train", "--resume", out, "--hidden-width", "16"]) == 2
    assert "[train --resume] --hidden-width must be 8 as in the run, got 16; " in capsys.readouterr().err
    assert main(["train", "--resume", out, "--steps", "40", "--quiet"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["steps"] == 40
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "eval"] == [20, 40]
    assert "eval  step" not in capsys.readouterr().out


def test_make_scene_and_train_on_it(tmp_path, capsys):
    """What make-scene writes, --data reads."""
    scene = str(tmp_path / "scene")
    size = ("--resolution", "16", "--train-views", "4", "--test-views", "2")
    assert main(["make-scene", scene, *size]) == 0
    out = str(tmp_path / "run")
    assert main(["train", "--data", scene, *TINY, "--downscale", "1", "--steps", "2", "--out", out]) == 0
    assert "4 train, 2 test views of 16 x 16" in capsys.readouterr().out


def test_a_run_whose_images_were_moved(tmp_path, capsys):
    """The message says what to do, and doing it helps."""
    scene, run = tmp_path / "scene", tmp_path / "run"
    assert main(["make-scene", str(scene), "--resolution", "16", "--train-views", "4", "--test-views", "2"]) == 0
    train = ["train", "--data", str(scene), *TINY, "--downscale", "1", "--steps", "2", "--out", str(run)]
    assert main(train) == 0
    scene.rename(tmp_path / "moved")
    look = ["render", str(run), "--views", "1", "--device", "cpu"]
    assert main(look) == 2
    assert f"must be at {scene}, got nothing there; put them back, or " in capsys.readouterr().err
    config = json.loads((run / "config.json").read_text())
    config["config"]["data"] = str(tmp_path / "moved")
    (run / "config.json").write_text(json.dumps(config))
    assert main(look) == 0
    (tmp_path / "moved").rename(tmp_path / "again")
    resume = ["train", "--resume", str(run), "--steps", "3", "--quiet", "--device", "cpu"]
    assert main([*resume, "--data", str(tmp_path / "again")]) == 0


def test_presets_side_by_side(capsys):
    """A column each, stars where they differ from the first, at 80 columns also with all of them."""
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["baseline", "stable", "fast"]
    rows = {words[0]: words[1:] for words in map(str.split, lines) if len(words) == 4}
    assert rows["hidden_width"] == ["256", "384*", "64*"] and rows["lr"] == ["0.0005", "0.0001*", "0.02*"]
    assert rows["direction_bands"] == ["4", "4", "-*"] and rows["levels"] == ["-", "-", "8*"]
    assert main(["presets", "fast", "small", "classic", "baseline", "stable"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert main(["presets", "small", "classic", "--different"]) == 0
    assert all("*" in line for line in capsys.readouterr().out.splitlines() if line.startswith(" ") and line[1] != " ")
    assert main(["presets", "fats"]) == 2
    assert "[presets] names must be of fast, small, classic, baseline, stable, got fats; " in capsys.readouterr().err


def test_the_baseline_at_reduced_steps(tmp_path, capsys):
    """The failed run, fewer and smaller steps: the same code, and a report that says whether it beats blank."""
    out = tmp_path / "run"
    small = ["--downscale", "50", "--hidden-width", "8", "--batch-rays", "32", "--num-samples", "4"]
    steps = ["--num-importance", "4", "--epochs", "4", "--steps-per-epoch", "10", "--report-every", "2"]
    assert main(["train", "--preset", "baseline", *small, *steps, "--device", "cpu", "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "blank picture" in printed
    verdicts = ("Never better than a blank picture", "Beats a blank picture by", "beats a blank picture by")
    assert any(verdict.lower() in printed.lower() for verdict in verdicts)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["event"] == "eval"] == [2, 4]
    assert {path.name for path in out.glob("quick_render*")} == {f"quick_render_epoch_0{n}.png" for n in (2, 4)}
    assert main(["report", str(out)]) == 0 and "blank picture" in " ".join(capsys.readouterr().out.split())


def test_doctor_names_everything(capsys):
    """Python, torch, devices and backends, each with a state."""
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for name in (
        "Python",
        "torch",
        "device cpu",
        "device mps",
        "device cuda",
        "backend metal",
        "backend host",
    ):
        assert name in printed


@pytest.mark.slow
def test_interrupted_run_in_a_process(tmp_path):
    """Ctrl-C: exit code 130, a checkpoint, and a last line that says how to go on."""
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "nerf_metal.train", *TINY, "--steps", "1000000", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    metrics = out / "metrics.jsonl"
    limit = time.monotonic() + 60
    while not metrics.exists() and time.monotonic() < limit:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout.rstrip().endswith(f"nerf-metal train --resume {out}") and not stderr
    assert list((out / "checkpoints").glob("step_*.json"))


@pytest.mark.slow
def test_the_main_job(tmp_path):
    """No arguments: within 3 minutes, at least 8 dB above the blank picture. Needs a machine that is not
    busy."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "nerf_metal.train"],
        capture_output=True,
        text=True,
        env=_environment(),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 180
    (metrics,) = tmp_path.glob("runs/*/metrics.jsonl")
    last = [json.loads(line) for line in metrics.read_text().splitlines() if '"eval"' in line][-1]
    assert last["psnr"] > last["blank_psnr"] + 8
