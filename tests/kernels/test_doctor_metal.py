"""``nerf-metal doctor --full`` on the metal backend, through the double: what a Mac's owner will run."""

from __future__ import annotations

import pytest

from nerf_metal.kernels.shaders import embedded_kernels
from tests.kernels.double import Double
from tests.selftest.test_doctor import doctor, few

pytestmark = pytest.mark.metal_encoding
TABLE = embedded_kernels()


def test_all_of_it_passes_and_every_kernel_runs(metal: Double, tmp_path, capsys) -> None:
    code, report = doctor(tmp_path)
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert report["software"]["backend"] == "metal" and "  backend metal; " in printed
    assert {row["kernel"] for row in report["kernels"] if row["compiled"] and row["ran"]} == set(TABLE)
    assert {entry["name"] for entry in metal.calls("get_kernel_function")} == set(TABLE)
    assert len(metal.calls("create_shader_library")) == len(set(TABLE.values()))
    modes = {row["mode"] for row in report["checks"] if row["group"] == "composite"}
    assert modes == {"metal", "metal, plain twins", "metal, storage offsets", "metal, behind torch's work"}
    assert max(map(len, printed.replace(str(tmp_path), "").splitlines())) <= 80


def test_inputs_have_offsets_where_they_should(metal: Double, tmp_path, monkeypatch) -> None:
    few(monkeypatch)
    doctor(tmp_path)
    offsets = [entry["offset"] for entry in metal.calls("set_arg_tensor")]
    assert offsets.count(3) > 100 and offsets.count(0) > 100


def test_what_the_compiler_says_is_shown_and_the_rest_goes_on(metal: Double, tmp_path, monkeypatch, capsys) -> None:
    few(monkeypatch)
    text = (
        "program_source:12:5: error: use of undeclared identifier 'half8'\nprogram_source:13: note: did you mean half4?"
    )
    metal.fail("create_shader_library", text)  # the first: adam
    code, report = doctor(tmp_path)
    printed = capsys.readouterr().out
    assert code == 1
    broken = [row for row in report["kernels"] if row["result"] == "failed"]
    assert [row["kernel"] for row in broken] == ["adam_step_f32"]
    assert broken[0]["compiled"] is False and text in broken[0]["message"] and not broken[0]["ran"]
    skipped = [row for row in report["checks"] if row["result"] != "ok"]
    assert [(row["group"], row["result"]) for row in skipped] == [("adam", "skipped")]
    assert "shader libraries compiled" in printed and "9 of 10" in printed
    assert "FAILED adam_step_f32: " in printed and "undeclared identifier 'half8'" in " ".join(printed.split())
    assert len(metal.calls("create_shader_library")) == len(set(TABLE.values()))


@pytest.mark.parametrize("call", ["get_kernel_function", "set_arg_tensor", "dispatch_array_with_group_size"])
def test_a_failing_call_names_its_kernel(call, metal: Double, tmp_path, monkeypatch, capsys) -> None:
    few(monkeypatch)
    metal.fail(call, "out of threadgroup memory")
    code, report = doctor(tmp_path)
    assert code == 1
    (kernel,) = [row for row in report["kernels"] if row["result"] == "failed"]
    assert kernel["kernel"] == "composite_forward_simd_f32" and "out of threadgroup memory" in kernel["message"]
    (check,) = [row for row in report["checks"] if row["result"] == "failed"]
    assert (check["group"], check["mode"]) == ("composite", "metal")
    assert check["message"].startswith("RuntimeError: [composite_forward_simd_f32] ")
