"""Nothing in the kernels and the launcher that the sanitizers object to, and that they do object to what is wrong."""

from __future__ import annotations

import functools
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kernels.libraries import METAL
from tools.sanitizers.__main__ import main, run_case
from tools.sanitizers.build import FLAGS, Run, Tree, UnavailableError, build_module, copy_and_build, toolchain
from tools.sanitizers.cases import cases, usual_isas

pytestmark = pytest.mark.sanitizers
HERE = Path(__file__).resolve().parent
BROKEN = (HERE / "broken.metal").read_text()
ISAS = usual_isas()
CASES = {case.name: case for case in cases(ISAS)}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The copy, built once."""
    try:
        tools = toolchain(list(FLAGS))
    except UnavailableError as error:
        pytest.skip(str(error))
    return copy_and_build(tmp_path_factory.mktemp("sanitizers"), tools, ISAS)


@pytest.fixture(scope="module")
def runs(tree: Tree) -> dict[str, Run]:
    """All cases, two side by side as the tool runs them."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CASES, pool.map(functools.partial(run_case, tree), CASES.values()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_sanitizers_find_nothing(runs: dict[str, Run], name: str) -> None:
    run = runs[name]
    assert run.reports == ""
    assert run.code == 0, run.output


def faults() -> dict[str, tuple[str, str]]:
    """Kernel to the place of its fault and the words of its report."""
    found = {}
    for kernel in re.finditer(r"^kernel void (\w+)\(.*?^\}$", BROKEN, re.M | re.S):
        if words := re.search(r"// report: (.+)$", kernel[0], re.M):
            line = BROKEN.count("\n", 0, kernel.start() + words.start()) + 1
            found[kernel[1]] = (f"broken.metal:{line}", words[1])
    return found


# A shader of the package's own with one index changed.
RIGHT, WRONG = "    bits[gid] = int(word);", "    bits[gid + 1u] = int(word);"
FAULTS = faults() | {"mutant_pack_f32": ("mutant.metal", "heap-buffer-overflow")}
COLLECTIVE = ("broken_after_barrier_f32", "broken_lane_array_f32")
HOST = [f"host:{name}" for name in FAULTS if name not in COLLECTIVE]
STRICT = [f"strict:{name}" for name in FAULTS]
CONTROLS = ["host:broken_nowhere_f32", "strict:broken_nowhere_f32", "after:broken_nowhere_rows_f32"]


@pytest.fixture(scope="module")
def reports(tree: Tree) -> dict[str, str]:
    """What the sanitizers say of each broken kernel in each mode, and of those that are not."""
    shaders = tree.folder / "broken"
    shutil.copytree(METAL, shaders, ignore=shutil.ignore_patterns("*.metal"))
    params = (shaders / "params.h").read_text()
    end = params.rindex("#endif")
    (shaders / "params.h").write_text(f"{params[:end]}struct BrokenParams {{\n    uint n;\n}};\n{params[end:]}")
    (shaders / "broken.metal").write_text(BROKEN)
    right = (METAL / "occupancy.metal").read_text()
    assert right.count(RIGHT) == 1
    mutant = right.replace(RIGHT, WRONG).replace("kernel void occupancy_", "kernel void mutant_")
    (shaders / "mutant.metal").write_text(mutant)
    library = tree.folder / "libbroken.so"
    build_module(shaders, library, tree.tools, tree.isas[:1])
    run = tree.run("broken", ["-m", "tests.sanitizers.broken", str(library), *HOST, *STRICT, *CONTROLS])
    assert run.code == 0, run.output
    found = {}
    for name, (process, code, said) in json.loads(run.output.splitlines()[-1]).items():
        path = tree.folder / "reports" / "broken" / f"report.{process}"
        found[name] = said + (path.read_text() if path.is_file() else "")
        assert (code == 0) == (found[name] == ""), name
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [*HOST, *STRICT])
def test_a_fault_is_reported_with_its_line(reports: dict[str, str], kernel: str) -> None:
    place, words = FAULTS[kernel.split(":")[1]]
    assert words in reports[kernel]
    assert place in reports[kernel]


@pytest.mark.slow
@pytest.mark.parametrize("kernel", CONTROLS)
def test_a_right_kernel_of_the_same_library_is_not(reports: dict[str, str], kernel: str) -> None:
    assert reports[kernel] == ""


def test_every_broken_kernel_but_the_controls_names_its_report() -> None:
    names = re.findall(r"^kernel void (\w+)\(", BROKEN, re.M)
    right = ["broken_nowhere_f32", "broken_divergence_f32", "broken_nowhere_rows_f32"]
    assert [name for name in names if name not in FAULTS] == right


def test_unknown_sanitizer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["address", "leaks"]) == 2
    assert capsys.readouterr().err == "[sanitizers] SANITIZER must be one of address, undefined, got leaks\n"


def test_a_compiler_without_sanitizers_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho unknown option -fsanitize >&2\nexit 1\n")
    compiler.chmod(0o755)
    for name, words in [
        (str(compiler), rf"needs a compiler with the sanitizers address, {compiler} says: unknown option -fsanitize"),
        ("no-such-compiler", "needs a C++ compiler, found no no-such-compiler; set CXX"),
    ]:
        monkeypatch.setenv("CXX", name)
        assert main(["address"]) == 2
        assert capsys.readouterr().err == f"[sanitizers] {words}\n"


def test_a_failed_build_is_not_something_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    try:
        real = toolchain(["undefined"]).compiler
    except UnavailableError as error:
        pytest.skip(str(error))
    compiler = tmp_path / "c++"
    compiler.write_text(f'#!/bin/sh\ncase "$1" in -c) echo no such header >&2; exit 1;; esac\nexec {real} "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert main(["undefined"]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(f"[sanitizers] nothing can be run: {compiler} -c ")
    assert rest == ["no such header"]
