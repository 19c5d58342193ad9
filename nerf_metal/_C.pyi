"""Kernel tables and launches. Use nerf_metal.ops; nerf_metal.kernels wraps this."""

from collections.abc import Mapping, Sequence

import torch

_Buffer = torch.Tensor | tuple[int, int, int] | None
"""A tensor; address, elements and type of memory that is no tensor's (0 float32, 1 float16, 2 int32, 3 uint32, 4
uint8); or None where a kernel's buffer holds nothing."""
_Params = Mapping[str, int | float] | bytes
"""Every member of the kernel's argument struct, in a dict, or its bytes."""
_Size = tuple[int, ...]
"""One to three counts."""

def kernel_table(loaded: bool = True) -> dict[str, tuple[str, tuple[tuple[str, str, bool], ...], str, bool]]:
    """name -> (library, ((buffer, type, writable), ...), struct, collective); loaded: also of shaders loaded since"""

def struct_table() -> dict[str, tuple[tuple[str, str], ...]]:
    """struct -> ((member, type), ...)"""

def shader_sources() -> dict[str, str]:
    """file name -> text, as embedded at build time"""

def load_module(path: str) -> None:
    """Load a shared library of further kernels."""

def host_isas() -> list[str]:
    """Instruction sets of the host kernels that this processor can run, best last."""

def host_isa() -> str:
    """The instruction set of the host kernels in use."""

def launch_host(
    kernel: str,
    buffers: Sequence[_Buffer],
    params: _Params,
    grid: _Size,
    group: _Size,
    threads: int,
    long_threads: bool = False,
) -> None:
    """Run a kernel on CPU memory, on threads."""

def launch_strict(
    kernel: str, buffers: Sequence[_Buffer], params: _Params, grid: _Size, group: _Size, order: str, seed: int
) -> None:
    """Run a kernel on CPU memory lane by lane, with every misuse reported."""

def launch_metal(
    kernel: str, tensors: Sequence[torch.Tensor | None], params: _Params, grid: _Size, group: _Size
) -> None:
    """Encode a kernel on MPS tensors into torch's stream."""

def metal_load(libtorch: str, provider: str) -> None:
    """Resolve torch's Metal C ABI."""

def metal_compile(library: str, source: str) -> None:
    """Compile a shader library from source."""

def metal_is_compiled(library: str) -> bool:
    """Whether a shader library is compiled."""
