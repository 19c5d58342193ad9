"""Which torch has what the metal backend looks up: the table's rules, and its result for the package index's wheels."""

from __future__ import annotations

import contextlib
import gzip
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from proof.macos_wheel import ToolError, UnreachableError, torch_symbols, torch_wheels
from proof.macos_wheel.build import SYSTEM_SYMBOLS
from proof.macos_wheel.torch_symbols import Lookup, lookups, main, missing
from proof.macos_wheel.torch_wheels import CACHE_VARIABLE, PYTHON, Torch

pytestmark = pytest.mark.cross_build
METHOD = "_ZN2at6native3mps19MetalKernelFunction6setArgEjPKvy"
BYTES = "torch_mps_set_arg_bytes"


def torch_with(names: set[str], version: str = "2.12.0") -> Torch:
    return Torch(version, "made.whl", [14, 0], sorted(f"_{name}" for name in names), {})


ALL = {lookup.name for lookup in lookups()}


def test_the_lookups_are_those_of_the_source() -> None:
    found = {lookup.name: lookup for lookup in lookups()}
    assert found["aoti_torch_mps_run_command_block"] == Lookup(
        "aoti_torch_mps_run_command_block", "run_block", optional=False, unless=None
    )
    assert found[BYTES].optional
    assert found[METHOD] == Lookup(METHOD, "set_bytes_method", optional=False, unless="set_bytes")
    assert len(found) == len({lookup.member for lookup in found.values()}) == len(lookups())


def test_a_call_that_is_not_understood_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "csrc" / "metal").mkdir(parents=True)
    monkeypatch.setattr(torch_symbols, "ROOT", tmp_path)
    head = "void resolve(void* library, const char* name)\n"
    for call in ('    resolve(mps, "f", found.f, sometimes);\n', "    resolve(mps, NAME, found.f);\n"):
        (tmp_path / "csrc" / "metal" / "metal.cpp").write_text(head + call)
        with pytest.raises(ToolError, match=r"^\[torch_symbols\]"):
            lookups()


def test_what_a_version_lacks() -> None:
    assert missing(torch_with(ALL)) == []
    assert missing(torch_with(ALL - {"aoti_torch_mps_set_arg_int"})) == ["aoti_torch_mps_set_arg_int"]
    assert missing(torch_with(ALL - {"torch_exception_get_what", "torch_tensor_from_pyobject"})) == []
    assert missing(torch_with(ALL - {BYTES})) == missing(torch_with(ALL - {METHOD})) == []
    assert missing(torch_with(ALL - {BYTES, METHOD})) == [METHOD]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and no package index."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path


def keep(folder: Path, torch: Torch) -> None:
    with gzip.open(folder / f"{torch.version}-cp{PYTHON}-1.json.gz", "wt") as file:
        json.dump(asdict(torch), file)


def test_a_supported_version_without_a_name_fails(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(cache, torch_with(ALL, "2.10.0"))
    keep(cache, torch_with(ALL - {"aoti_torch_mps_start_encoding"}, "2.9.0"))
    keep(cache, torch_with(ALL - {"aoti_torch_mps_start_encoding"}, "2.16.0"))
    assert main(["2.10.0", "2.9.0"]) == 0
    _, right, old = capsys.readouterr().out.splitlines()
    assert right == "torch 2.10.0 for macOS 14.0 lacks nothing that is needed; of all names: nothing"
    assert old.startswith("torch 2.9.0 for macOS 14.0 lacks aoti_torch_mps_start_encoding; ")
    assert main(["2.10.0", "2.16.0"]) == 1
    assert "torch 2.16.0 for macOS 14.0 lacks aoti_torch_mps_start_encoding; " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["2.10.0"], ["latest"], ["../2.10"], ["--imports"]])
def test_what_cannot_be_read_is_one_line(cache: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("[torch] ")
    assert printed.err.count("\n") == 1
    assert list(cache.iterdir()) == []  # nothing half-made


@pytest.fixture(scope="module")
def versions() -> list[str]:
    """The oldest supported version on the index and the newest that pip may have; where the index is silent, which
    says nothing of the project, tests are skipped."""
    try:
        listed = torch_wheels.listed_versions()
        torch_wheels.read(listed[0])
    except UnreachableError as error:
        pytest.skip(str(error))
    for version in reversed(listed):
        with contextlib.suppress(UnreachableError):  # a constraint of this machine, a wheel that is not there yet
            torch_wheels.read(version)
            break
    return [listed[0], version]


@pytest.mark.slow  # two wheels of 80 and 140 MB when they are new to the cache
def test_the_oldest_and_the_newest_torch_have_all_names(
    versions: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    oldest, newest = versions
    assert oldest == torch_wheels.oldest_supported() != newest
    assert main(versions) == 0
    old, new = capsys.readouterr().out.splitlines()[1:]
    assert BYTES in old and BYTES not in new


@pytest.mark.slow
def test_the_list_of_system_symbols_is_what_the_oldest_torch_imports(versions: list[str]) -> None:
    torch = torch_wheels.read(torch_wheels.oldest_supported())
    assert SYSTEM_SYMBOLS.read_text(encoding="utf-8") == torch_symbols.system_symbols_text(torch)
    assert torch.macos <= [14, 0]
