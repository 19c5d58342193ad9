"""A save that fails leaves every checkpoint that was there, whole, and nothing of its own."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.checkpoint.saving import contents, save, steps, trained, whole

ROOT = Path(__file__).parents[3]


def failing(monkeypatch, at: int) -> list[str]:
    """Make the operation number ``at`` of those that write fail, a write half way; returns the names of those done."""
    done: list[str] = []

    def patch(owner, name: str) -> None:
        right = getattr(owner, name)

        def operation(*args):
            done.append(name)
            if len(done) - 1 == at:
                if name == "write_bytes":
                    right(args[0], args[1][: len(args[1]) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return right(*args)

        monkeypatch.setattr(owner, name, lambda *args, **options: operation(*args, *options.values()))

    for owner, name in ((Path, "write_bytes"), (os, "fsync"), (os, "replace")):
        patch(owner, name)
    return done


def test_an_error_at_each_write_in_turn(tmp_path, monkeypatch):
    """Writes, syncs and renames, of a new checkpoint and of one that replaces a damaged one."""
    model, optimizer = trained()
    for step in (1, 2, 3):
        save(tmp_path, step, model, optimizer, psnr=20.0 - step)
    before, failed = contents(tmp_path), []
    for at in range(100):
        if at % 2:
            (tmp_path / "step_00000004.json").write_bytes(b"damaged")
        with monkeypatch.context() as patch:
            done = failing(patch, at)
            try:
                save(tmp_path, 4, model, optimizer, psnr=1.0)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                failed.append(done[at])
                assert contents(tmp_path) == before
                assert (whole(tmp_path).step, whole(tmp_path, "best").step) == (3, 1)
                continue
        if len(done) <= at:
            break
        assert done[at] == "fsync"  # the folder's, which not every system has: the checkpoint is there
        assert steps(tmp_path) == [1, 3, 4] and whole(tmp_path).step == 4
        for path in tmp_path.iterdir():
            path.unlink()
        for name, data in before.items():
            (tmp_path / name).write_bytes(data)
    assert failed == ["write_bytes", "fsync", "replace"] * 3
    assert steps(tmp_path) == [1, 3, 4]


def test_what_reads_back_otherwise_is_not_saved(tmp_path, monkeypatch):
    """A drive that loses a bit and says nothing: nothing is deleted for such a checkpoint."""
    model, optimizer = trained()
    for step in (1, 2):
        save(tmp_path, step, model, optimizer)
    before, write = contents(tmp_path), Path.write_bytes
    for damaged in (".safetensors.tmp", ".optimizer.safetensors.tmp", ".json.tmp"):
        with monkeypatch.context() as patch:
            patch.setattr(
                Path,
                "write_bytes",
                lambda path, data, end=damaged: write(
                    path, data[:-2] + b"!" + data[-1:] if path.name == f".step_00000003{end}" else data
                ),
            )
            with pytest.raises(OSError, match=r"read back \(step_00000003\S* is damaged"):
                save(tmp_path, 3, model, optimizer)
        assert contents(tmp_path) == before


def full_disk(*args: str) -> str:
    """What ``python -m tests.train.checkpoint.full_disk`` prints, started by ``args``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(args, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_files_beyond_the_limit_of_their_size(tmp_path):
    """The kernel refuses the rest of a file (EFBIG), of each of the three in turn."""
    assert full_disk(sys.executable, "-m", "tests.train.checkpoint.full_disk", "limit", str(tmp_path)).split() == [
        "EFBIG:.safetensors",
        "EFBIG:.optimizer.safetensors",
        "EFBIG:.json",
    ]


def test_a_full_disk(tmp_path):
    """A small tmpfs of our own, filled up but for one page, two, and so on, until a checkpoint fits."""
    unshare = _unshare(tmp_path)
    script = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
    helper = (sys.executable, "-m", "tests.train.checkpoint.full_disk", "fill", str(tmp_path))
    failed = full_disk(*unshare, "sh", "-c", script, str(tmp_path), *helper).split()
    assert len(failed) >= 3 and set(failed) == {
        "ENOSPC:.safetensors",
        "ENOSPC:.optimizer.safetensors",
        "ENOSPC:.json",
    }
    assert list(tmp_path.iterdir()) == []  # it was the other file system, which is gone


def _unshare(folder: Path) -> tuple[str, ...]:
    """The command that gives a process mounts of its own, as root or as a user that becomes one."""
    if shutil.which("unshare") is None:
        pytest.skip("no tmpfs can be mounted: there is no unshare")
    reason = ""
    for command in (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")):
        mount = (*command, "mount", "-t", "tmpfs", "tmpfs", str(folder))
        tried = subprocess.run(mount, capture_output=True, text=True)
        if tried.returncode == 0:
            return command
        reason = tried.stderr.strip()
    pytest.skip(f"no tmpfs can be mounted: {reason}")
