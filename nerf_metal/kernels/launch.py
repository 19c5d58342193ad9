"""One launch: the shader library compiled where Metal needs it, and off to a backend."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch

from nerf_metal.kernels import extension, shaders
from nerf_metal.kernels.backends import settings

# Four SIMD-groups: enough to hide latency, small enough for any pipeline's register limit.
_GROUP = (128, 1, 1)


@functools.cache
def _library_of(kernel: str) -> str:
    table = extension.load().kernel_table()
    if kernel not in table:
        raise ValueError(f"[launch] kernel must be one of the shaders' kernels, got {kernel!r:.82}")
    return table[kernel][0]


def launch(
    kernel: str,
    buffers: Sequence[torch.Tensor | None],
    params: Mapping[str, int | float],
    grid: tuple[int, ...],
    *,
    backend: str,
    group: tuple[int, ...] | None = None,
    long_threads: bool = False,
) -> None:
    """Run a kernel. Sizes, dtypes and the grid are checked before anything runs.

    Args:
        kernel: full name, e.g. ``"composite_forward_f32"``.
        buffers: a list or tuple, one for each buffer of the kernel, in its order; None or an empty tensor where it
            holds nothing. They must be on the backend's device; a storage offset is honoured, strides are the kernel's
            affair.
        params: a dict, every member of the kernel's argument struct.
        grid: threads along x, or x, y, or x, y, z.
        backend: ``"metal"`` or ``"host"``.
        group: threads of a threadgroup; by default 128 along x.
        long_threads: each thread is long work (milliseconds), so that the host shares even two among its own threads.
            Otherwise one thread of the host runs a grid of less than 64 alone.

    Raises:
        ValueError: for anything the kernel cannot safely run on.
        TypeError: for a tensor of a dtype no kernel takes, and anything that is of another type than above.
        RuntimeError: for what the GPU, the shader compiler or strict mode reports.
    """
    record = settings.launches
    try:
        _launch(kernel, buffers, params, grid, _GROUP if group is None else group, backend, long_threads)
    except Exception as error:
        if record is not None and isinstance(kernel, str) and isinstance(grid, tuple) and all(grid):
            record.failed.setdefault(kernel, str(error))
        raise
    if record is not None and all(grid):
        record.ran.add(kernel)


def _launch(
    kernel: str,
    buffers: Sequence[torch.Tensor | None],
    params: Mapping[str, int | float],
    grid: tuple[int, ...],
    group: tuple[int, ...],
    backend: str,
    long_threads: bool,
) -> None:
    c = extension.load()
    if backend == "metal":
        if isinstance(kernel, str):  # the launch itself refuses anything else
            library = _library_of(kernel)
            if not c.metal_is_compiled(library):
                compile_library(library, kernel)
        c.launch_metal(kernel, buffers, params, grid, group)
    elif backend != "host":
        raise ValueError(f"[{kernel}] backend must be metal or host, got {backend!r}")
    elif settings.strict_order is not None:
        c.launch_strict(kernel, buffers, params, grid, group, settings.strict_order, settings.strict_seed)
    else:
        c.launch_host(kernel, buffers, params, grid, group, torch.get_num_threads(), long_threads)


def compile_library(library: str, kernel: str | None = None) -> None:
    """Let Metal compile a shader library, also one that it has compiled before.

    Args:
        library: name of a ``.metal`` file without its ending.
        kernel: for the message, where one is to be launched.

    Raises:
        RuntimeError: with what the compiler said.
    """
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
        raise RuntimeError(text if kernel is None else f"[{kernel}] {text}") from error
