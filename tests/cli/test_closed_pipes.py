"""Commands whose output nobody reads any more: real pipes, real processes."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.cli.process import PYTHON, TINY, environment

SIGPIPE_CODE = 141  # as shells report a program that SIGPIPE ended


def run_into_closed_pipe(*args: str, stream: str = "stdout", python: tuple[str, ...] = PYTHON) -> tuple[int, str, str]:
    """Run a command one of whose streams is a pipe without a reader; return its exit code and both outputs."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    try:
        done = subprocess.run([*python, *args], **streams, text=True, env=environment(), check=False)
    finally:
        os.close(writer)
    return done.returncode, done.stdout or "", done.stderr or ""


@pytest.mark.parametrize(
    "args",
    [(), ("--version",), ("train", "--help"), ("render", "--help"), ("presets",), ("doctor",), ("train", "--stpes")],
    ids=" ".join,
)
def test_a_command_ends_quietly(args):
    code, _, stderr = run_into_closed_pipe(*args)
    if args == ("train", "--stpes"):  # the parser's refusal goes to the other stream, which is read
        assert code == 2 and "--stpes" in stderr
    else:
        assert (code, stderr) == (SIGPIPE_CODE, "")


def test_unbuffered_and_the_other_entry_point():
    assert run_into_closed_pipe("presets", python=(sys.executable, "-u", "-m", "nerf_metal"))[0] == SIGPIPE_CODE
    code, _, stderr = run_into_closed_pipe("--help", python=(sys.executable, "-m", "nerf_metal.train"))
    assert (code, stderr) == (SIGPIPE_CODE, "")


def test_errors_that_nobody_reads():
    assert run_into_closed_pipe("presets", "fats", stream="stderr") == (SIGPIPE_CODE, "", "")


def test_head_gets_its_line():
    script = f"{' '.join(PYTHON)} presets different | head -1; {' '.join(PYTHON)} presets --different | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment(), check=False)
    first, *more = done.stderr.splitlines()
    assert "names must be" in first and not more and done.stdout.split() == ["baseline", "stable", "fast"]


def test_streams_that_are_closed_from_the_start():
    """The command does its work; its text goes nowhere."""
    for args, redirect, code in (("presets", ">&-", 0), ("train --help", ">&-", 0), ("presets fats", ">&- 2>&-", 2)):
        script = f"{' '.join(PYTHON)} {args} {redirect}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment(), check=False)
        assert (done.returncode, done.stdout, done.stderr) == (code, "", ""), args


def test_training_saves_its_checkpoint(tmp_path):
    """A run whose reader leaves after the first line ends as after Ctrl-C, and can be resumed."""
    out = tmp_path / "run"
    steps = ("--steps", "1000000", "--eval-every-seconds", "0.5", "--out", str(out))
    process = subprocess.Popen(
        [*PYTHON, "train", *TINY, *steps], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    limit = time.monotonic() + 60
    while not (out / "metrics.jsonl").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    process.stdout.close()  # the next evaluation prints a line
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == SIGPIPE_CODE and stderr == ""
    last = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][-1]["step"]
    saved = max(int(path.stem.removeprefix("step_")) for path in (out / "checkpoints").glob("step_*.json"))
    assert saved >= last > 0
    resume = subprocess.run(
        [*PYTHON, "train", "--resume", str(out), "--steps", str(saved + 1), "--quiet"],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert resume.returncode == 0, resume.stderr
    assert (out / "checkpoints" / f"step_{saved + 1:08d}.json").exists()
