"""``nerf-metal doctor --full`` on the host: it passes, every kernel runs, and each fault is found and reported."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nerf_metal import kernels
from nerf_metal.cli import main
from nerf_metal.kernels.shaders import embedded_kernels
from nerf_metal.selftest import runner
from nerf_metal.selftest.probes import Probe
from nerf_metal.selftest.table import OPS

KERNELS = set(embedded_kernels())


def few(monkeypatch: pytest.MonkeyPatch, probes: tuple[Probe, ...] = ()) -> None:
    """Keep two cases of each table, which still launch every kernel, and these probes of torch's ops."""
    middle = [op.cases[len(op.cases) // 2 :][:2] for op in OPS]
    table = tuple(dataclasses.replace(op, cases=cases) for op, cases in zip(OPS, middle, strict=True))
    monkeypatch.setattr(runner, "OPS", table)
    monkeypatch.setattr(runner, "RELIED_ON", probes)
    monkeypatch.setattr(runner, "AVOIDED", ())


def doctor(folder: Path, *options: str) -> tuple[int, dict]:
    """Run the command and return its exit code and its report."""
    path = folder / "found.json"
    code = main(["doctor", "--full", "--report", str(path), *options])
    return code, json.loads(path.read_text())


def failures(report: dict) -> list[tuple[str, str]]:
    return [(row["group"], row["case"]) for row in report["checks"] if row["result"] == "failed"]


@pytest.mark.host_kernels
def test_everything_passes_and_every_kernel_runs(tmp_path, capsys) -> None:
    code, report = doctor(tmp_path, "--backend", "host")
    printed = capsys.readouterr().out
    assert code == 0 and report["result"] == "passed" and report["complete"] is True
    assert {row["kernel"] for row in report["kernels"] if row["ran"]} == KERNELS
    assert {row["result"] for row in (*report["kernels"], *report["checks"])} == {"ok"}
    for name in dict.fromkeys(op.name for op in OPS):
        assert f"  {name} " in printed
        modes = {row["mode"] for row in report["checks"] if row["group"] == name}
        assert modes >= {"host", "host, storage offsets", "host, behind torch's work"}
    cases = {(op.name, case.name) for op in OPS for case in op.cases}
    ran = {(row["group"], row["case"].rpartition(", ")[2]) for row in report["checks"] if row["mode"] == "host"}
    assert cases <= ran
    assert f" {len(KERNELS)} of {len(KERNELS)}\n" in printed
    assert all(0.0 <= row["ratio"] <= 1.0 for row in report["checks"])
    assert max(map(len, printed.replace(str(tmp_path), "").splitlines())) <= 80


def test_keys_of_the_report(tmp_path, monkeypatch) -> None:
    """Programs read the report: a change here is a new format."""
    few(monkeypatch)
    _, report = doctor(tmp_path)
    assert report["kind"] == "nerf_metal doctor report" and report["format"] == 2
    assert set(report) == {
        *("kind", "format", "complete", "running", "result", "machine", "software", "totals", "seconds", "warnings"),
        *("kernels", "checks"),
    }
    assert set(report["machine"]) == {
        *("chip", "model", "system", "architecture", "logical_cores", "threads", "memory_gib"),
    }
    assert set(report["software"]) == {
        *("nerf_metal", "python", "torch", "packages", "backend", "metal_arguments"),
        *("host_isa", "host_isas", "environment"),
    }
    assert set(report["totals"]) == {"ok", "failed", "known", "skipped"}
    assert {frozenset(row) for row in report["kernels"]} == {
        frozenset(("kernel", "library", "compiled", "ran", "result", "message"))
    }
    assert {frozenset(row) for row in report["checks"]} == {
        frozenset(("group", "case", "mode", "result", "ratio", "seconds", "message", "issues", "avoided"))
    }


def perturbed(kernel: str, change: Callable[[list], None]) -> Callable:
    """Make a launch function that changes the buffers of one kernel after its launch."""
    launch = kernels.launch

    def wrapped(name: str, buffers: list, *arguments: object, **options: object) -> None:
        launch(name, buffers, *arguments, **options)
        if name == kernel:
            change(buffers)

    return wrapped


@pytest.mark.parametrize(
    ("kernel", "buffer", "group"),
    [
        ("sh_backward_f32", 2, "sh"),
        ("composite_backward_simd_f16", 13, "composite"),
        ("mlp_sum_f32", 1, "mlp"),
        ("traverse_write_f32", 7, "traverse"),
        ("hashgrid_fixed_f32", 1, "hashgrid"),
    ],
)
def test_a_wrong_result_is_found(kernel, buffer, group, tmp_path, monkeypatch, capsys) -> None:
    few(monkeypatch)
    assert doctor(tmp_path)[0] == 0
    capsys.readouterr()
    monkeypatch.setattr(kernels, "launch", perturbed(kernel, lambda buffers: buffers[buffer].mul_(1.01).add_(0.01)))
    code, report = doctor(tmp_path)
    printed = capsys.readouterr().out
    assert code == 1 and report["result"] == "failed"
    assert {name for name, _ in failures(report)} == {group}
    row = next(row for row in report["checks"] if row["result"] == "failed")
    assert row["ratio"] is None or row["ratio"] > 1.0
    assert row["message"] and f"FAILED {group}, " in printed
    assert str(tmp_path / "found.json") in printed.splitlines()[-1]


def test_a_launch_that_does_nothing_is_found(tmp_path, monkeypatch) -> None:
    few(monkeypatch)
    launch = kernels.launch
    monkeypatch.setattr(
        kernels, "launch", lambda name, *rest, **how: None if name == "sh_forward_f32" else launch(name, *rest, **how)
    )
    code, report = doctor(tmp_path)
    assert code == 1 and {name for name, _ in failures(report)} == {"sh"}
    assert [row["kernel"] for row in report["kernels"] if row["result"] == "failed"] == ["sh_forward_f32"]


def test_a_kernel_that_no_check_launched_is_a_failure(tmp_path, monkeypatch, capsys) -> None:
    few(monkeypatch)
    monkeypatch.setattr(runner, "OPS", tuple(op for op in runner.OPS if op.name != "sh"))
    code, report = doctor(tmp_path)
    assert code == 1
    unrun = {row["kernel"]: row["message"] for row in report["kernels"] if row["result"] == "failed"}
    assert set(unrun) == {"sh_forward_f32", "sh_backward_f32"} and all(unrun.values())
    printed = capsys.readouterr().out
    assert printed.count("FAILED sh_backward_f32: ") == 1
    # It is printed before torch's own ops run, since some of them end the process on a Mac.
    assert printed.index("FAILED sh_backward_f32") < printed.index("torch, relied on")


# ---- torch's own ops ----
class _WrongFrom(torch.autograd.Function):
    """A product whose weight gradient is wrong from a number of rows on, as pytorch #177116 describes."""

    rows = 32_767

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return x @ weight.t() + (0.0 if bias is None else bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad_weight = grad.t() @ x
        if len(x) >= _WrongFrom.rows and x.dtype == torch.float32:
            grad_weight = grad_weight + 1e4
        return grad @ weight, grad_weight, grad.sum(0) if ctx.needs_input_grad[2] else None


@pytest.mark.parametrize(("rows", "code", "result"), [(32_767, 0, "known"), (32_000, 1, "failed")])
def test_torchs_wrong_linear_gradients_are_found(rows, code, result, tmp_path, monkeypatch, capsys) -> None:
    """With more rows than nerf_metal uses, the fault is known and avoided. With fewer rows it is a failure."""
    relied_on, avoided = runner.RELIED_ON, runner.AVOIDED
    few(monkeypatch, relied_on[:1])
    monkeypatch.setattr(runner, "AVOIDED", avoided[:1])
    monkeypatch.setattr(_WrongFrom, "rows", rows)
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, w, b=None: _WrongFrom.apply(x, w, b))
    found, report = doctor(tmp_path)
    assert found == code
    below, beyond = (next(row for row in report["checks"] if f" {n} rows" in row["case"]) for n in (32_766, 32_768))
    assert beyond["result"] == "known" and beyond["issues"] == [177116, 193487] and beyond["ratio"] > 1.0
    assert below["result"] == ("ok" if result == "known" else "failed")
    printed = capsys.readouterr().out
    assert "known  torch, avoided, Linear and gradients, 32768 rows" in printed
    assert "pytorch #177116, #193487" in " ".join(printed.split())
    assert max(map(len, printed.replace(str(tmp_path), "").splitlines())) <= 80


def test_an_exception_of_torch_is_a_row_and_the_other_checks_go_on(tmp_path, monkeypatch, capsys) -> None:
    def fails(side):
        raise NotImplementedError(f"no such op; see {Path.home()}/private/notes")

    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    probe = Probe("an op", fails)
    few(monkeypatch, (probe, dataclasses.replace(probe, name="another", avoided="nothing of it")))
    code, report = doctor(tmp_path)
    assert code == 1 and report["complete"]
    first, second = report["checks"][-2:]
    assert first["result"] == "failed" and first["message"] == "NotImplementedError: no such op; see ~/private/notes"
    assert second["result"] == "known"
    assert "somebody" not in json.dumps(report)


def test_an_end_in_the_middle_leaves_what_came_before(tmp_path, monkeypatch, capsys) -> None:
    """A driver's assertion ends the process without any Python exception; this is similar."""

    def ends(side):
        raise KeyboardInterrupt

    few(monkeypatch, (Probe("an op", ends),))
    code, report = doctor(tmp_path)
    assert code == 130
    assert not report["complete"] and report["running"] == "torch, relied on: an op" and report["result"] is None
    assert len(report["kernels"]) == len(KERNELS) and report["totals"]["ok"] > 100
    assert capsys.readouterr().out.splitlines()[-1].startswith("  torch, relied on")
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_a_mac_without_metal_fails_unless_the_host_was_asked_for(tmp_path, monkeypatch, capsys) -> None:
    if kernels.why_not("metal") is None:
        pytest.skip("metal can be used here")
    few(monkeypatch)
    monkeypatch.setattr(sys, "platform", "darwin")
    code, report = doctor(tmp_path)
    assert code == 1 and report["software"]["backend"] == "host" and failures(report) == [("metal", "usable")]
    assert "FAILED metal, usable: " in capsys.readouterr().out
    assert doctor(tmp_path, "--backend", "host")[0] == 0


# ---- options ----
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--full", "--report", "no/such/found.json"], "[doctor] --report must be in an existing folder, got no/such/"),
        (["--full", "--report", "own.json"], "[doctor] --report must be a new file or an older report, got own.json, "),
        (["--full", "--report", "."], "[doctor] --report must be a new file or an older report, got ., "),
        (["--full", "--backend", "metal"], "[doctor] --backend must be usable here, got metal: "),
        (["--report", "found.json"], "[doctor] --report must "),
        (["--backend", "host"], "[doctor] --backend must "),
    ],
)
def test_bad_options_are_refused_before_the_long_run(options, message, tmp_path, monkeypatch, capsys) -> None:
    if "metal" in options and kernels.why_not("metal") is None:
        pytest.skip("metal can be used here")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.json").write_text('{"kind": "of mine"}')
    monkeypatch.setattr(runner, "run_self_test", lambda *_: pytest.fail("the run began"))
    assert main(["doctor", *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {message}") and captured.err.count("\n") == 1
    assert not captured.out and [path.name for path in tmp_path.iterdir()] == ["own.json"]


def test_an_older_report_is_replaced(tmp_path, monkeypatch) -> None:
    few(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["doctor", "--full"]) == 0
        (tmp_path / "nerf_metal_doctor.json").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["nerf_metal_doctor.json"]


@pytest.mark.parametrize(
    ("version", "private"), [("2.10.0", True), ("2.13.1+cpu", True), ("2.14.0a0", False), ("3.0", False)]
)
def test_a_torch_with_private_arguments_is_named(version, private, monkeypatch, capsys, tmp_path) -> None:
    """On whatever machine: who runs doctor on Linux may choose the torch of a Mac by it."""
    monkeypatch.setattr(torch, "__version__", version)
    few(monkeypatch)
    assert main(["doctor"]) == 0
    short = " ".join(capsys.readouterr().out.split())
    _, report = doctor(tmp_path, "--backend", "host")
    full = capsys.readouterr().out
    for printed in (short, " ".join(full.split())):
        assert ("go through a private C++ symbol of torch" in printed) == private
        assert ("torch >= 2.14 is recommended on a Mac" in printed) == private
    assert (report["software"]["metal_arguments"] is not None) == private
    assert max(map(len, full.replace(str(tmp_path), "").splitlines())) <= 80
