"""Which backend runs an op, and why another cannot."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from nerf_metal.kernels import extension

BACKENDS = ("auto", "metal", "host", "torch")
_DEVICES = {"metal": "mps", "host": "cpu"}
_BEST = {device: backend for backend, device in _DEVICES.items()}
_KERNEL_DTYPES = frozenset((torch.float32, torch.float16))


@dataclass
class LaunchRecord:
    """Kernels that were launched with at least one thread: those that went off, and what was said where one did not.

    On a GPU a launch that went off has been accepted, and may still run.
    """

    ran: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass
class _Settings:
    """Process-wide: what the tests and the self-test switch."""

    strict_order: str | None = None
    strict_seed: int = 0
    simd: bool | None = None  # None: the backend's own choice
    metal_provider: str = ""
    launches: LaunchRecord | None = None


settings = _Settings()


def host_isa() -> str:
    """The instruction set of the host kernels in use: ``baseline``, ``avx2`` or ``avx512``."""
    return extension.load().host_isa()


def available_host_isas() -> list[str]:
    """The instruction sets that this processor can run, best last. ``NERF_METAL_HOST_ISA`` forces one of them."""
    return extension.load().host_isas()


def why_not(backend: str) -> str | None:
    """None where a backend is usable, else one line: the reason and what to do.

    Args:
        backend: ``"metal"``, ``"host"`` or ``"torch"``.
    """
    if backend == "torch":
        return None
    try:
        extension.load()
    except ImportError as error:
        return str(error)
    return _why_not_metal() if backend == "metal" else None


def _why_not_metal() -> str | None:
    if not settings.metal_provider:
        if sys.platform != "darwin":
            return f"Metal needs macOS on Apple silicon, this is {sys.platform}; use the host backend on CPU tensors"
        if not torch.backends.mps.is_available():
            return "torch reports no MPS device; it needs macOS 14 or newer on Apple silicon and an arm64 Python"
    try:
        _load_metal(settings.metal_provider)
    except RuntimeError as error:
        return str(error)
    return None


@functools.lru_cache(maxsize=1)
def _load_metal(provider: str) -> None:
    name = "libtorch_cpu.dylib" if sys.platform == "darwin" else "libtorch_cpu.so"
    extension.load().metal_load(str(Path(torch.__file__).parent / "lib" / name), provider)


@contextlib.contextmanager
def use_metal_provider(path: str) -> Iterator[None]:
    """Take ``aoti_torch_mps_*`` from another library, and CPU tensors for MPS ones: the tests' double of Metal."""
    before = settings.metal_provider
    settings.metal_provider = os.path.abspath(path)
    _load_metal.cache_clear()
    try:
        yield
    finally:
        settings.metal_provider = before
        _load_metal.cache_clear()


@contextlib.contextmanager
def strict_mode(order: str = "forward", seed: int = 0, *, simd: bool = True) -> Iterator[None]:
    """Run host launches lane by lane and report every misuse of SIMD-groups and threadgroups.

    Args:
        order: lanes ``"forward"``, ``"reversed"`` or ``"shuffled"``.
        seed: of the shuffle.
        simd: take the SIMD-group kernels, as Metal does, instead of their plain twins.
    """
    before = settings.strict_order, settings.strict_seed
    settings.strict_order, settings.strict_seed = order, seed
    try:
        with kernel_form(simd=simd):
            yield
    finally:
        settings.strict_order, settings.strict_seed = before


@contextlib.contextmanager
def kernel_form(*, simd: bool) -> Iterator[None]:
    """Take the SIMD-group kernels where there are any, or their plain twins, whatever the backend would choose. The
    host runs SIMD-group kernels in strict mode alone.
    """
    before = settings.simd
    settings.simd = simd
    try:
        yield
    finally:
        settings.simd = before


@contextlib.contextmanager
def record_launches() -> Iterator[LaunchRecord]:
    """Keep which kernels are launched meanwhile."""
    before = settings.launches
    settings.launches = record = LaunchRecord()
    try:
        yield record
    finally:
        settings.launches = before


def device_of(backend: str) -> str:
    """The device of the tensors that ``"metal"`` or ``"host"`` takes: ``"mps"`` or ``"cpu"``."""
    return "cpu" if settings.metal_provider else _DEVICES[backend]


def resolve(op: str, backend: str, *tensors: torch.Tensor) -> str:
    """The backend that runs ``op`` on these tensors: ``"metal"``, ``"host"`` or ``"torch"``.

    Raises:
        ValueError: for an unknown backend, one that is not usable here, and tensors on another device.
    """
    device = tensors[0].device.type
    if backend == "auto":
        return _best(device, _KERNEL_DTYPES.issuperset([t.dtype for t in tensors]))
    if backend not in BACKENDS:
        raise ValueError(f"[{op}] backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "torch":
        return backend
    reason = why_not(backend)
    if reason is not None:
        raise ValueError(f"[{op}] backend {backend!r} cannot be used: {reason}")
    wanted = device_of(backend)
    if device != wanted:
        raise ValueError(
            f"[{op}] backend {backend!r} needs tensors on {wanted}, got {device}; "
            f"move them with .to({wanted!r}) or use backend='auto'"
        )
    return backend


def _best(device: str, has_kernel: bool) -> str:
    wanted = _BEST.get(device)
    if wanted is None or not has_kernel:  # other devices and dtypes have the reference alone
        return "torch"
    reason = why_not(wanted)
    if reason is None:
        return wanted
    warnings.warn(f"nerf_metal runs the slow torch references: {reason}", RuntimeWarning, stacklevel=4)
    return "torch"


def variant(stem: str, dtype: torch.dtype, backend: str) -> tuple[str, int]:
    """A kernel's full name and the threads it wants an item: the SIMD-group form on Metal, the plain on the host."""
    suffix = {torch.float32: "f32", torch.float16: "f16"}[dtype]
    if backend == "metal" if settings.simd is None else settings.simd:
        return f"{stem}_simd_{suffix}", 32
    return f"{stem}_{suffix}", 1
