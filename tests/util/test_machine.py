"""What a run, a report and a table say of the machine."""

import json
import time
from pathlib import Path

import pytest
import torch

from nerf_metal.util.machine import machine, processor


def test_it_is_quick_and_json_and_nothing_personal() -> None:
    started = time.perf_counter()
    about = machine()
    assert time.perf_counter() - started < 1.0  # a run asks at its start
    assert about["chip"] == processor() and about["threads"] == torch.get_num_threads()
    assert about["memory_gib"] > 0.1 and about["logical_cores"] >= 1
    assert str(Path.home()) not in json.dumps(about)


def test_what_the_system_does_not_tell_is_none(monkeypatch) -> None:
    def closed(*_args, **_options):
        raise OSError

    monkeypatch.setattr(Path, "read_text", closed)
    monkeypatch.setattr("subprocess.run", closed)
    monkeypatch.setattr("os.sysconf", closed)
    for system in ("linux", "darwin"):
        monkeypatch.setattr("sys.platform", system)
        about = machine()
        assert about["chip"] is None and about["model"] is None and about["memory_gib"] == pytest.approx(0.0)
