"""One launch: tensors to buffers, a dict to the argument struct, and off to a backend."""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping, Sequence

import torch

from nerf_metal.kernels import extension, shaders
from nerf_metal.kernels.backends import settings

# Order of DType in csrc/module.h. bool is stored as one byte, 0 or 1.
_DTYPE_CODES = {torch.float32: 0, torch.float16: 1, torch.int32: 2, torch.uint8: 4, torch.bool: 4}
# Four SIMD-groups: enough to hide latency, small enough for any pipeline's register limit.
_GROUP = 128


@functools.cache
def _struct_packer(name: str) -> tuple[struct.Struct, tuple[str, ...]]:
    members = extension.load().struct_table()[name]
    formats = {"uint": "I", "int": "i", "float": "f"}
    return struct.Struct("<" + "".join(formats[kind] for _, kind in members)), tuple(m for m, _ in members)


@functools.cache
def _kernel_info(kernel: str) -> tuple[str, str]:
    table = extension.load().kernel_table()
    if kernel not in table:
        raise ValueError(f"[launch] kernel must be one of the shaders' kernels, got {kernel!r}")
    library, _, params, _ = table[kernel]
    return library, params


def _pack(kernel: str, params: Mapping[str, int | float]) -> bytes:
    packer, names = _struct_packer(_kernel_info(kernel)[1])
    if params.keys() != set(names):
        raise ValueError(f"[{kernel}] params must be {sorted(names)}, got {sorted(params)}")
    try:
        return packer.pack(*(params[name] for name in names))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"[{kernel}] params must fit 32 bits each: {error}; got {dict(params)}") from error


def _describe(tensor: torch.Tensor | None) -> tuple[int, int, int] | None:
    """Address, elements up to the end of the storage, dtype code."""
    if tensor is None or tensor.numel() == 0:
        return None
    code = _DTYPE_CODES.get(tensor.dtype)
    if code is None:
        raise TypeError(f"[launch] a buffer must be float32, float16, int32, uint8 or bool, got {tensor.dtype}")
    elements = int(tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset())
    return tensor.data_ptr(), elements, code


def launch(
    kernel: str,
    buffers: Sequence[torch.Tensor | None],
    params: Mapping[str, int | float],
    grid: tuple[int, ...],
    *,
    backend: str,
    group: tuple[int, ...] | None = None,
) -> None:
    """Run a kernel. Sizes, dtypes and the grid are checked before anything runs.

    Args:
        kernel: full name, e.g. ``"composite_forward_f32"``.
        buffers: one for each buffer of the kernel, in its order; None or an empty tensor where it holds nothing.
            They must be on the backend's device; a storage offset is honoured, strides are the kernel's affair.
        params: every member of the kernel's argument struct.
        grid: threads along x, y, z.
        backend: ``"metal"`` or ``"host"``.
        group: threads of a threadgroup; by default 128 along x.

    Raises:
        ValueError: for anything the kernel cannot safely run on.
        TypeError: for a tensor of a dtype no kernel takes.
        RuntimeError: for what the GPU, the shader compiler or strict mode reports.
    """
    c = extension.load()
    packed = _pack(kernel, params)
    described = [_describe(tensor) for tensor in buffers]
    size = (*grid, 1, 1)[:3]
    threads = (*(group or (_GROUP,)), 1, 1)[:3]
    if backend == "metal":
        library = _kernel_info(kernel)[0]
        if not c.metal_is_compiled(library):
            _compile(library, kernel)
        tensors = [t if d is not None else None for t, d in zip(buffers, described, strict=True)]
        c.launch_metal(kernel, described, packed, size, threads, tensors)
    elif settings.strict_order is not None:
        c.launch_strict(kernel, described, packed, size, threads, settings.strict_order, settings.strict_seed)
    else:
        c.launch_host(kernel, described, packed, size, threads, torch.get_num_threads())


def _compile(library: str, kernel: str) -> None:
    source = shaders.library_source(library)
    try:
        extension.load().metal_compile(library, source)
    except RuntimeError as error:
        text = str(error)
        # Torch before 2.13 only logs what the compiler said; its public compile_shader raises it.
        if text.endswith("compile the shader") and torch.backends.mps.is_available():
            try:
                torch.mps.compile_shader(source)
            except Exception as inner:
                text = f"{text}: {inner}"
        raise RuntimeError(f"[{kernel}] {text}") from error
