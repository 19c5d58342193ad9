"""Launches with made-up arguments: what a kernel's buffers must hold, evaluated apart from the build's own table."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

import numpy as np
import torch

from nerf_metal import _C
from nerf_metal.kernels import signature
from tests.kernels.libraries import METAL

DTYPES = {"float": np.float32, "half": np.float16, "int": np.int32, "uint": np.uint32, "uchar": np.uint8}
Described = tuple[int, int, int] | None
SOURCES = signature.read_sources(METAL)
STRUCTS = signature.parse_structs(SOURCES["params.h"])
KERNELS = {
    kernel.name: kernel
    for name, text in SOURCES.items()
    if name.endswith(".metal")
    for kernel in signature.parse_kernels(name.removesuffix(".metal"), text)
}
PLAIN = sorted(name for name, kernel in KERNELS.items() if not kernel.collective)


def evaluate(expression: str, values: Mapping[str, int | float]) -> int:
    """A shape's expression in whole numbers: names, ``+ - *``, parentheses and ``a ? b : c``."""
    tokens = re.findall(r"\w+|[-+*?:()]", expression)

    def take(*wanted: str) -> str | None:
        return tokens.pop(0) if tokens and tokens[0] in wanted else None

    def atom() -> int:
        if take("("):
            inner = ternary()
            assert take(")"), expression
            return inner
        token = tokens.pop(0)
        return int(token) if token.isdigit() else int(values[token])

    def product() -> int:
        result = atom()
        while take("*"):
            result *= atom()
        return result

    def total() -> int:
        result = product()
        while sign := take("+", "-"):
            result += product() * (1 if sign == "+" else -1)
        return result

    def ternary() -> int:
        condition = total()
        if not take("?"):
            return condition
        yes = ternary()
        assert take(":"), expression
        no = ternary()
        return yes if condition else no

    result = ternary()
    assert not tokens, expression
    return result


def needed(kernel: str, params: Mapping[str, int | float]) -> list[int]:
    """Elements each buffer must have."""
    counts = []
    for buffer in KERNELS[kernel].buffers:
        product = 1
        for part in buffer.shape:
            product *= evaluate(part, params)
        counts.append(max(0, product))
    return counts


def pack(kernel: str, params: Mapping[str, int | float]) -> bytes:
    """The argument struct."""
    formats = {"uint": "I", "int": "i", "float": "f"}
    members = STRUCTS[KERNELS[kernel].params]
    return struct.pack("<" + "".join(formats[t] for _, t in members), *(params[m] for m, _ in members))


def small_params(kernel: str, random: np.random.Generator) -> dict[str, int | float]:
    """Arguments that keep every buffer small: flags of 0 and 1 mostly, counts up to 70."""
    params: dict[str, int | float] = {}
    for name, kind in STRUCTS[KERNELS[kernel].params]:
        if kind == "float":
            params[name] = float(random.choice([0.0, 1e-5, 0.5, 2.0, 1e10, -1.0, np.inf, np.nan]))
        elif name in ("n_hidden", "n_chunks"):  # what a layer's weights are multiplied with
            params[name] = int(random.choice([0, 1, 1, 2, 4, 5]))
        elif name == "n_features":
            params[name] = int(random.choice([1, 2, 4, 8, 0, 3]))
        elif name == "n_levels":
            params[name] = int(random.choice([0, 1, 2, 7]))
        elif name.startswith("n_") or name.endswith(("_per_thread", "_per_ray")):
            params[name] = int(random.choice([0, 1, 2, 7, 31, 32, 33, 70]))
        elif name == "t_stride":
            params[name] = int(random.choice([0, 1, 31, 70, 71, 100]))
        elif name == "background_stride":
            params[name] = int(random.choice([0, 3, 4]))
        elif name == "degree":
            params[name] = int(random.choice([0, 1, 2, 3, 4, 5]))
        elif name == "resolution":
            params[name] = int(random.choice([0, 1, 4, 8, 12, 2**32 - 1]))
        elif name == "first_cell":
            params[name] = int(random.choice([0, 1, 500, 2**32 - 1]))
        elif name in ("pad_in", "pad_out", "width"):
            params[name] = int(random.choice([16, 16, 32, 48, 64, 128, 0, 17, 144]))
        elif name in ("x_stride", "y_stride"):
            params[name] = int(random.choice([0, 1, 33, 70, 71]))
        elif name == "seed":
            params[name] = int(random.integers(2**32))
        else:
            params[name] = int(random.choice([0, 1, 1, 2]))
    if "pad_in" in params and random.random() < 0.7:  # these kernels do nothing with a shape they do not handle
        for name, pad in (("n_in", "pad_in"), ("n_out", "pad_out"), ("width", "width")):
            params[pad] = 16 * int(random.integers(1, 9))
            if name != pad:
                params[name] = int(random.integers(1, int(params[pad]) + 1))
        params["n_hidden"] = int(random.integers(1, 5))
    return params


def grid_of(kernel: str, params: Mapping[str, int | float], random: np.random.Generator) -> tuple[int, int, int]:
    """A grid that covers the work, or not, or more than it."""
    rays = int(next(value for name, value in params.items() if name.startswith("n_"))) + int(random.choice([0, 0, 3]))
    if KERNELS[kernel].builtins[0].components == 1:
        return (rays * (32 if KERNELS[kernel].collective else 1), 1, 1)
    return (int(random.choice([1, 5, 72])), rays, 1)


def zeros(kernel: str, params: Mapping[str, int | float]) -> list[torch.Tensor]:
    """Every buffer as long as the shader says, and at least one element."""
    types = (getattr(torch, np.dtype(DTYPES[buffer.dtype]).name) for buffer in KERNELS[kernel].buffers)
    return [torch.zeros(max(n, 1), dtype=t) for n, t in zip(needed(kernel, params), types, strict=True)]


def valid_launch(kernel: str) -> tuple[list[torch.Tensor], dict[str, int | float], tuple[int, int, int]]:
    """Buffers, arguments and a grid, small and right."""
    random = np.random.default_rng(len(kernel))
    while True:
        params = small_params(kernel, random)
        grid = grid_of(kernel, params, random)
        if max(needed(kernel, params)) <= 10**6 and np.prod(grid) > 0:
            return zeros(kernel, params), params, grid


def launch(
    kernel: str,
    buffers: list[Described],
    params: bytes,
    grid: tuple[int, int, int] = (1, 1, 1),
    group: tuple[int, int, int] = (32, 1, 1),
) -> None:
    """The extension's launch, in the mode that runs the kernel."""
    if KERNELS[kernel].collective:
        _C.launch_strict(kernel, buffers, params, grid, group, "forward", 0)
    else:
        _C.launch_host(kernel, buffers, params, grid, group, 2)
