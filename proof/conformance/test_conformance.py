"""proof.conformance: our shaders pass; every sample with a mistake is caught by its rule, on its line and there alone.

A sample of bad/ names the rule in its first line and marks the line with ``// mistake``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proof.conformance import check
from proof.conformance.__main__ import main
from proof.conformance.clang import compiler

pytestmark = pytest.mark.conformance

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SHADERS = sorted((ROOT / "metal").glob("*.metal"))
RIGHT = [
    *sorted((HERE / "good").glob("*.metal")),
    *(ROOT / "tests" / "kernels" / "shaders" / name for name in ("right.metal", "language.metal")),
]
BAD = sorted((HERE / "bad").glob("*.metal"))
# The divergent kernels of strict mode's own tests, which it runs and this reads.
DIVERGENT = {"wrong": {15, 29, 31, 46, 59}, "wrong_matrix": {14}}


def stem(path: Path) -> str:
    return path.stem


@pytest.fixture(autouse=True)
def _installed_clang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLANGXX", raising=False)


@pytest.mark.parametrize("shader", [*SHADERS, *RIGHT], ids=stem)
def test_a_shader_that_metal_takes_passes(shader: Path) -> None:
    assert check(shader) == []


@pytest.mark.parametrize("sample", BAD, ids=stem)
def test_a_mistake_is_found_by_its_rule_on_its_line(sample: Path) -> None:
    lines = sample.read_text(encoding="utf-8").splitlines()
    rule = lines[0].removeprefix("// rule: ")
    marked = {n for n, line in enumerate(lines, 1) if "// mistake" in line}
    found = check(sample)
    assert {f.line for f in found} == marked, found
    assert all(f.file == str(sample) for f in found)
    assert rule in {f.rule for f in found}, found


@pytest.mark.parametrize("name", DIVERGENT)
def test_divergence_that_strict_mode_runs_into_is_read_too(name: str) -> None:
    found = check(ROOT / "tests" / "kernels" / "shaders" / f"{name}.metal")
    assert {f.line for f in found if f.rule == "divergent-collective"} == DIVERGENT[name]


def test_a_mistake_in_a_header_is_placed_there(tmp_path: Path) -> None:
    (tmp_path / "late.h").write_text(
        '#include "common.h"\n\ninline float half_of(float x)\n{\n    return x * 0.5;\n}\n'
    )
    shader = tmp_path / "late.metal"
    shader.write_text('#include "late.h"\n')
    (found,) = check(shader)
    assert (found.file, found.line, found.rule) == (str(tmp_path / "late.h"), 5, "literal-suffix")


def test_without_metals_header_none_of_its_names_is_known(tmp_path: Path) -> None:
    shader = tmp_path / "bare.metal"
    shader.write_text("inline float f(float x)\n{\n    return exp(x);\n}\n")
    assert [(f.line, f.rule) for f in check(shader)] == [(3, "undeclared")]


def test_the_command_prints_one_line_a_file_and_fails_where_something_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main([str(SHADERS[0])]) == 0
    assert capsys.readouterr().out == "metal/adam.metal: ok\n"
    assert main([str(SHADERS[0]), str(HERE / "bad" / "goto.metal")]) == 1
    ok, finding = capsys.readouterr().out.splitlines()
    assert ok.endswith(": ok")
    assert finding.split("goto.metal")[1].startswith(":12: [goto] ")


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["none.metal"], {}, "no such file"),
        (["--nonsense"], {}, "unrecognized arguments"),
        ([str(SHADERS[0])], {"CLANGXX": "no-such-clang"}, "set CLANGXX to a clang++"),
        ([str(SHADERS[0])], {"CLANGXX": f"{sys.executable} -c pass"}, "is no clang"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(arguments: list[str], environment: dict[str, str], words: str) -> None:
    command = [sys.executable, "-m", "proof.conformance", *arguments]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
    assert run.returncode == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr


def test_another_clang_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLANGXX", "clang++ --some-option")
    assert compiler() == ["clang++", "--some-option"]
