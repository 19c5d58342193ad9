"""Which backend runs, why another cannot, and what a package without its extension says."""

from __future__ import annotations

import importlib
import re
import sys

import pytest
import torch

from nerf_metal import _C, kernels, ops
from nerf_metal.kernels import backends, extension
from tests.kernels.double import Double, doubles

pytestmark = pytest.mark.host_kernels

CPU = torch.zeros(2)
META = torch.zeros(2, device="meta")


@pytest.fixture
def no_extension(monkeypatch: pytest.MonkeyPatch):
    """A package whose extension cannot be imported."""
    true_import = importlib.import_module

    def fail(name: str, package: str | None = None):
        if name == "nerf_metal._C":
            raise ImportError("libstdc++.so.6: version not found")
        return true_import(name, package)

    monkeypatch.setattr(importlib, "import_module", fail)
    extension.load.cache_clear()
    yield (
        "nerf_metal's compiled kernels must be importable, got: libstdc++.so.6: version not found; "
        "install the package with a C++ compiler at hand: pip install ."
    )
    extension.load.cache_clear()


def test_what_is_usable_here() -> None:
    assert kernels.why_not("torch") is None
    assert kernels.why_not("host") is None


@pytest.mark.skipif(sys.platform == "darwin", reason="the words for systems without Metal")
def test_metal_needs_a_mac() -> None:
    reason = f"Metal needs macOS on Apple silicon, this is {sys.platform}; use the host backend on CPU tensors"
    assert kernels.why_not("metal") == reason
    with pytest.raises(ValueError) as caught:
        kernels.resolve("march_rays", "metal", CPU)
    assert str(caught.value) == f"[march_rays] backend 'metal' cannot be used: {reason}"


def test_mac_without_metal(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert kernels.why_not("metal") == (
        "torch reports no MPS device; it needs macOS 14 or newer on Apple silicon and an arm64 Python"
    )


def test_metal_double_is_usable(metal: Double) -> None:
    assert kernels.why_not("metal") is None
    assert kernels.resolve("op", "metal", CPU) == "metal"


def test_unknown_backend() -> None:
    with pytest.raises(ValueError) as caught:
        kernels.resolve("op", "cuda", CPU)
    assert str(caught.value) == "[op] backend must be one of auto, metal, host, torch, got 'cuda'"


def test_wrong_device(metal: Double) -> None:
    for backend in ("host", "metal"):
        with pytest.raises(ValueError) as caught:
            kernels.resolve("op", backend, META)
        assert str(caught.value) == (
            f"[op] backend '{backend}' needs tensors on cpu, got meta; move them with .to('cpu') or use backend='auto'"
        )


def test_auto() -> None:
    assert kernels.resolve("op", "auto", CPU) == "host"
    assert kernels.resolve("op", "auto", CPU.half(), CPU) == "host"
    assert kernels.resolve("op", "auto", CPU.double()) == "torch"  # no kernel takes it
    assert kernels.resolve("op", "auto", CPU, CPU.double()) == "torch"
    assert kernels.resolve("op", "auto", META) == "torch"
    assert kernels.resolve("op", "torch", META) == "torch"


def test_package_without_extension(no_extension) -> None:
    for backend in ("host", "metal"):
        assert kernels.why_not(backend) == no_extension
        with pytest.raises(ValueError, match=re.escape(f"[op] backend '{backend}' cannot be used: {no_extension}")):
            kernels.resolve("op", backend, CPU)
    with pytest.raises(ImportError, match=re.escape(no_extension)):
        kernels.host_isa()
    assert kernels.why_not("torch") is None


def test_auto_without_extension_warns_and_uses_the_reference(no_extension) -> None:
    words = re.escape(f"nerf_metal runs the slow torch references: {no_extension}")
    rays, box = torch.ones(2, 3), torch.tensor([[-1.0] * 3, [1.0] * 3])
    with pytest.warns(RuntimeWarning, match=f"^{words}$"):
        bounds = ops.intersect_rays(rays * 3, -rays, box)
    assert bounds.t_min.tolist() == [2.0, 2.0]


def test_extension_is_loaded_once() -> None:
    assert extension.load() is _C


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_variant(dtype) -> None:
    suffix = {torch.float32: "f32", torch.float16: "f16"}[dtype]
    assert backends.variant("composite_forward", dtype, "metal") == (f"composite_forward_simd_{suffix}", 32)
    assert backends.variant("composite_forward", dtype, "host") == (f"composite_forward_{suffix}", 1)


def test_module_that_is_no_module(tmp_path) -> None:
    with pytest.raises(RuntimeError, match=r"^\[load_module\] .*nothing\.so"):
        _C.load_module(str(tmp_path / "nothing.so"))
    path = doubles()["public"].path
    with pytest.raises(RuntimeError) as caught:
        _C.load_module(path)
    words = "must export nerf_metal_module; build it around csrc/launcher/module.cpp"
    assert str(caught.value) == f"[load_module] {path} {words}"


def test_loaded_module_leaves_the_packages_sources(kernel_library) -> None:
    assert "right_tree_f32" in _C.kernel_table()
    assert "MarchParams" in _C.shader_sources()["params.h"]
    assert "LaneParams" in _C.struct_table()
