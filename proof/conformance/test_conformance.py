"""Our shaders pass; every sample with a mistake is found by its rule, on its line and there alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proof.conformance import check, diagnostics, syntax
from proof.conformance.__main__ import main
from proof.conformance.clang import compiler
from tests.kernels import libraries

pytestmark = pytest.mark.conformance

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SHADERS = sorted((ROOT / "metal").glob("*.metal"))
RIGHT = [ROOT / "tests/kernels/shaders" / f"{name}.metal" for name in ("right", "language")]
USUAL = "(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])"


def samples() -> dict[str, tuple[str, str]]:
    """By name the rule and the text of a shader."""
    found = {}
    for sample in (HERE / "samples.txt").read_text(encoding="utf-8").split("\n== ")[1:]:
        title, *lines = sample.strip("\n").split("\n")
        name, rule = title.split(": ")
        if len(lines) == 1:
            lines = [f"{lines[0]}  // mistake"]
        before = [line for line in lines if not line.startswith((" ", "(", "end:", "{", "}"))]
        if "{" in lines:  # a function or a kernel on many lines, all of the sample
            before, lines = lines, []
        head = next((line for line in lines if line.startswith("(")), USUAL)
        body = [line for line in lines if line.startswith((" ", "end:"))]
        text = ['#include "common.h"', "struct Params { uint n; float s; };", *before, f"kernel void k{head}"]
        found[name] = (rule, "\n".join([*text, "{", *body, "}"]) + "\n")
    return found


SAMPLES = samples()


@pytest.fixture(autouse=True)
def _installed_clang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLANGXX", raising=False)


@pytest.mark.parametrize("shader", [*SHADERS, *RIGHT], ids=lambda path: path.stem)
def test_a_shader_that_metal_takes_passes(shader: Path) -> None:
    assert check(shader) == []


@pytest.mark.parametrize("name", SAMPLES)
def test_a_mistake_is_found_by_its_rule_on_its_line(tmp_path: Path, name: str) -> None:
    rule, text = SAMPLES[name]
    shader = tmp_path / "sample.metal"
    shader.write_text(text, encoding="utf-8")
    marked = {n for n, line in enumerate(text.splitlines(), 1) if line.endswith("// mistake")}
    found = check(shader)
    assert {f.line for f in found} == marked, found
    assert all(f.file == str(shader) for f in found)
    assert rule in {f.rule for f in found}, found


def test_every_rule_has_a_sample() -> None:
    said = (HERE / "syntax.py").read_text(encoding="utf-8")
    rules = {rule for _, rule in (*diagnostics._OPTIONS, *diagnostics._WORDS)} | set(diagnostics._HINTS)
    rules |= {rule for rule, _ in syntax._KINDS.values()} | set(re.findall(r'yield "([a-z-]+)",', said))
    assert rules <= {rule for rule, _ in SAMPLES.values()}


UNSET = {
    "array": "    float t[4];\n    a[gid] = t[gid % 4u];\n",
    "reference": "    float sum;\n    add(sum, a[gid]);\n    a[gid] = sum;\n",
    "member": "    Params q;\n    q.n = gid;\n    a[gid] = q.s + float(int(q.n));\n",
}


def test_what_clang_does_not_see_to_be_unset_the_build_refuses(tmp_path: Path) -> None:
    """g++ follows a value through inlined functions; CI's build makes its warnings errors."""
    metal = tmp_path / "metal"
    metal.mkdir()
    libraries.copy_headers(metal)
    (metal / "params.h").write_text("struct Params {\n    uint n;\n    float s;\n};\n")
    text = (
        '#include "common.h"\n#include "params.h"\ninline void add(thread float& sum, float x)\n{\n    sum += x;\n}\n'
    )
    for name, body in UNSET.items():
        text += f"kernel void {name}_f32(\n    device float* a [[buffer(0)]],  // [n]\n"
        text += f"    constant Params& p [[buffer(1)]],\n    uint gid [[thread_position_in_grid]])\n{{\n{body}}}\n"
    (metal / "unset.metal").write_text(text)
    with pytest.raises(RuntimeError) as caught:
        libraries.build_module(tmp_path, {"baseline": []})
    for variable in ("t", "sum", "q"):
        assert re.search(rf"unset\.metal:\d+.*\W{variable}\W.*uninitialized", str(caught.value)), variable


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
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    assert main([str(SHADERS[0])]) == 0
    assert capsys.readouterr().out == "metal/adam.metal: ok\n"
    wrong = tmp_path / "wrong.metal"
    wrong.write_text(SAMPLES["goto"][1])
    assert main([str(SHADERS[0]), str(wrong)]) == 1
    ok, finding = capsys.readouterr().out.splitlines()
    assert ok.endswith(": ok")
    assert finding.split("wrong.metal")[1].startswith(":5: [goto] ")


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["none.metal"], {}, "no such file"),
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
