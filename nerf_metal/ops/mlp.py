"""A fused small multilayer perceptron: ``metal/mlp.metal``, specified by ``nerf_metal/reference/mlp.py``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from nerf_metal import kernels, reference
from nerf_metal.ops.checks import check_choice, check_kernel_dtype, check_match, check_tensor
from nerf_metal.reference.mlp import OUTPUT_ACTIVATIONS

WIDEST = 128
"""The largest number of columns of a layer."""
DEEPEST = 4
"""The largest number of hidden layers."""
_LISTS = (list, tuple, torch.nn.ParameterList)
_TILE = 16  # columns of a tile: the widest vector, two of the 8x8 matrices of an Apple GPU
# Rows of a thread: whole blocks of 48, enough of them that a thread's weights are read from its cache.
_HOST_ROWS = 960
# A chunk of rows has weight gradients of its own, so their number must not grow with the rows; a multiple of most
# usual numbers of processors, so that they end together.
_CHUNKS = 48
_HOST_SUM_COLUMNS = 512  # of a thread that sums them up: long vectors, little of a cache
_HOST_BLOCK = 48  # rows that the host takes through all layers together
# As metal/mlp_simd.h has them: rows of a SIMD-group's block where no layer is wider than _NARROW, and else; and the
# side of the part of a layer's weight gradients that one holds.
_NARROW, _NARROW_BLOCK, _WIDE_BLOCK, _PATCH = 64, 16, 8, 32
# The backward on SIMD-groups keeps activations and their gradients, 1.2 KB a row of the usual networks: so many rows at
# a time.
_SCRATCH_ROWS = 2**16
# Eight patches each, which the usual networks have, are 512 SIMD-groups: as many as the larger GPUs hold.
_SIMD_CHUNKS = 64


def mlp(
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor] | None = None,
    *,
    output_activation: str = "none",
    known: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Evaluate a small network with ReLU after each hidden layer, in one kernel.

    The fusion is that of Müller et al., "Real-time Neural Radiance Caching" (SIGGRAPH 2021, section 4);
    :func:`nerf_metal.reference.mlp` has the equations. The backward pass computes the activations again instead of
    storing them. Gradients flow to ``x``, weights and biases. Those of weights are summed in an order that does not
    depend on the number of threads.

    Args:
        x: rows ``[N, in]``, float32 (the ``torch`` backend takes any float dtype), ``in`` at most 128. Rows may have a
            stride.
        weights: matrix of each layer ``[out, in]``, as in ``torch.nn.Linear``, for 2 to 5 layers. All hidden layers
            have one width; no layer is wider than 128. A width that is no multiple of 16 takes the time of the next
            multiple.
        biases: vector of each layer ``[out]``. None is no bias.
        output_activation: ``"none"``, ``"relu"`` or ``"sigmoid"``, applied to the last layer.
        known: the result ``[N, out]``, if an earlier call without gradients has given it. It is returned with the
            gradients of a call of its own. The ``torch`` backend computes it again.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Returns:
        Rows ``[N, out]`` of the last layer.

    Raises:
        ValueError: if a shape or device is wrong, if the activation is unknown, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "mlp"
    check_tensor(op, "x", x)
    if x.dim() != 2:
        raise ValueError(f"[{op}] x must have shape (N, in), got {tuple(x.shape)}")
    check_choice(op, "output_activation", output_activation, OUTPUT_ACTIVATIONS)
    _check_layers(op, x, weights, biases)
    if known is not None:
        check_match(op, "known", known, "x", x, (len(x), weights[-1].shape[0]))
    backend = kernels.resolve(op, backend, x)
    check_kernel_dtype(op, "x", x, backend)
    if backend == "torch":
        return reference.mlp(x, weights, biases, output_activation=output_activation)
    activation = OUTPUT_ACTIVATIONS.index(output_activation)
    y: torch.Tensor = _Mlp.apply(x, known, activation, backend, len(weights), *weights, *(biases or ()))
    return y


def _check_layers(
    op: str, x: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor] | None
) -> None:
    for name, tensors in (("weights", weights), ("biases", biases)):
        if not isinstance(tensors, _LISTS) and (tensors is not None or name == "weights"):
            raise TypeError(f"[{op}] {name} must be a list of tensors, got {type(tensors).__name__}")
    if not 2 <= len(weights) <= DEEPEST + 1:
        raise ValueError(f"[{op}] weights must be of 2 to {DEEPEST + 1} layers, got {len(weights)}")
    if biases is not None and len(biases) != len(weights):
        raise ValueError(f"[{op}] biases must be one for each of {len(weights)} layers, got {len(biases)}")
    for layer, weight in enumerate(weights):
        if check_tensor(op, f"weights[{layer}]", weight).dim() != 2:
            raise ValueError(f"[{op}] weights[{layer}] must have shape (out, in), got {tuple(weight.shape)}")
    width, columns = weights[0].shape[0], x.shape[1]
    for layer, weight in enumerate(weights):
        out = weight.shape[0] if layer == len(weights) - 1 else width
        check_match(op, f"weights[{layer}]", weight, "x", x, (out, columns))
        if not (1 <= columns <= WIDEST and 1 <= out <= WIDEST):
            raise ValueError(f"[{op}] layers must be 1 to {WIDEST} wide, got weights[{layer}] of {out}x{columns}")
        if biases is not None:
            check_match(op, f"biases[{layer}]", biases[layer], "x", x, (out,))
        columns = out


class _Mlp(torch.autograd.Function):
    """The network as one differentiable function: a forward and a backward pass of kernels."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        known: torch.Tensor | None,
        activation: int,
        backend: str,
        layers: int,
        *tensors: torch.Tensor,
    ) -> torch.Tensor:
        weights, biases = tensors[:layers], tensors[layers:]
        if x.stride(1) != 1 or not x.shape[1] <= x.stride(0) < 2**31:
            x = x.contiguous()
        rows, columns = x.shape
        pads = [_pad(columns), *(_pad(w.shape[0]) for w in weights)]
        params = {
            "n_rows": rows,
            "n_in": columns,
            "n_out": weights[-1].shape[0],
            "n_hidden": layers - 1,
            "pad_in": pads[0],
            "pad_out": pads[-1],
            "width": pads[1],
            "x_stride": x.stride(0),
            "y_stride": weights[-1].shape[0],
            "n_chunks": 0,
            "rows_per_thread": _HOST_ROWS,
            "out_activation": activation,
            "has_bias": int(bool(biases)),
            "has_grad_x": 0,
        }
        padded = [_padded(w, pads[i + 1], pads[i]) for i, w in enumerate(weights)]
        weights_t = torch.cat([w.t().flatten() for w in padded])
        flat_biases = _flat_biases(x, biases, pads)
        kernel, threads = kernels.variant("mlp_forward", x.dtype, backend)
        ctx.params, ctx.backend, ctx.simd = params, backend, threads > 1
        if known is None:
            y = x.new_empty((rows, params["n_out"]))
            grid = _blocks(params) * threads if ctx.simd else -(-rows // _HOST_ROWS)
            buffers = [x, weights_t, flat_biases, y]
            kernels.launch(kernel, buffers, params, (grid,), backend=backend, long_threads=True)
        else:
            y = known.view_as(known)
        ctx.save_for_backward(x, torch.cat([w.flatten() for w in padded]), weights_t, flat_biases, y)
        ctx.shapes = [w.shape for w in weights]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weights, weights_t, biases, y = ctx.saved_tensors
        params = dict(ctx.params, has_grad_x=int(ctx.needs_input_grad[0]))
        grad_x = x.new_empty(x.shape) if ctx.needs_input_grad[0] else None
        y = y.contiguous() if params["out_activation"] else None  # what was known may be a view
        buffers = _Buffers(x, weights, weights_t, biases, y, grad_y.contiguous(), grad_x)
        backward = _backward_simd if ctx.simd else _backward_plain
        grad_weights, grad_biases = backward(buffers, params, ctx.backend)
        layers = _split_layers(_sum(grad_weights, ctx.backend), ctx.shapes, params)
        if grad_biases is None:
            return grad_x, None, None, None, None, *layers
        of_layer = _sum(grad_biases, ctx.backend).split([params["width"]] * params["n_hidden"] + [params["pad_out"]])
        return grad_x, None, None, None, None, *layers, *(g[: s[0]] for g, s in zip(of_layer, ctx.shapes, strict=True))


class _Buffers(NamedTuple):
    """The first buffers of the backward kernels, in their order."""

    x: torch.Tensor
    weights: torch.Tensor
    weights_t: torch.Tensor
    biases: torch.Tensor
    y: torch.Tensor | None
    grad_y: torch.Tensor
    grad_x: torch.Tensor | None

    def rows(self, part: slice) -> _Buffers:
        """Return views of some rows."""
        y, grad_x = (None if t is None else t[part] for t in (self.y, self.grad_x))
        return self._replace(x=self.x[part], y=y, grad_y=self.grad_y[part], grad_x=grad_x)


def _backward_plain(b: _Buffers, params: dict[str, int], backend: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Fill the gradient of x, and return those of weights and biases with a row for each chunk."""
    per_chunk = _per_chunk(len(b.x), _CHUNKS, _HOST_BLOCK)
    chunks = -(-len(b.x) // per_chunk)
    params = dict(params, n_chunks=chunks, rows_per_thread=per_chunk)
    grad_weights = b.x.new_empty((chunks, b.weights.numel()))
    grad_biases = b.x.new_empty((chunks, b.biases.numel())) if params["has_bias"] else None
    buffers = [*b, grad_weights, grad_biases]
    kernels.launch("mlp_backward_f32", buffers, params, (chunks,), backend=backend, long_threads=True)
    return grad_weights, grad_biases


def _backward_simd(b: _Buffers, params: dict[str, int], backend: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Do what :func:`_backward_plain` does, by two kernels with scratch memory between them."""
    rows, at_once = len(b.x), min(len(b.x), _SCRATCH_ROWS)
    per_chunk = _per_chunk(at_once, _SIMD_CHUNKS, _NARROW_BLOCK)
    chunks = -(-rows // per_chunk)
    grad_weights = b.x.new_empty((chunks, b.weights.numel()))
    grad_biases = b.x.new_empty((chunks, b.biases.numel())) if params["has_bias"] else None
    hidden = params["n_hidden"] * params["width"]
    # whole blocks of rows, wherever the last ends
    inputs = b.x.new_empty((at_once + _NARROW_BLOCK - 1, params["pad_in"] + hidden))
    grads = b.x.new_empty((at_once + _NARROW_BLOCK - 1, hidden + params["pad_out"]))
    widths = [params["pad_in"], *[params["width"]] * params["n_hidden"], params["pad_out"]]
    patches = sum(-(-into // _PATCH) * -(-out // _PATCH) for into, out in itertools.pairwise(widths))
    for first in range(0, rows, _SCRATCH_ROWS):
        part = b.rows(slice(first, first + _SCRATCH_ROWS))
        here = slice(first // per_chunk, first // per_chunk + -(-len(part.x) // per_chunk))
        sums = [grad_weights[here], None if grad_biases is None else grad_biases[here]]
        params = dict(params, n_rows=len(part.x), n_chunks=here.stop - here.start, rows_per_thread=per_chunk)
        grid = (_blocks(params) * 32,)
        kernels.launch("mlp_backward_rows_simd_f32", [*part, inputs, grads], params, grid, backend=backend)
        grid = (params["n_chunks"] * patches * 32,)
        kernels.launch("mlp_backward_weights_simd_f32", [inputs, grads, *sums], params, grid, backend=backend)
    return grad_weights, grad_biases


def _sum(chunks: torch.Tensor, backend: str) -> torch.Tensor:
    """Return the sum of the rows. Torch does not do it: its threads would spin beside those of the next kernel, which
    takes a third off that kernel's speed."""
    sums = chunks.new_empty(chunks.shape[1])
    per_thread = 1 if backend == "metal" else _HOST_SUM_COLUMNS
    params = {"n_chunks": len(chunks), "n_columns": len(sums), "columns_per_thread": per_thread}
    grid = (-(-len(sums) // per_thread),)
    kernels.launch("mlp_sum_f32", [chunks, sums], params, grid, backend=backend, long_threads=True)
    return sums


def _blocks(params: dict[str, int]) -> int:
    """Return the number of blocks of rows, one for each SIMD-group."""
    narrow = max(params["pad_in"], params["width"], params["pad_out"]) <= _NARROW
    return -(-params["n_rows"] // (_NARROW_BLOCK if narrow else _WIDE_BLOCK))


def _per_chunk(rows: int, chunks: int, block: int) -> int:
    """Return the rows of a chunk, for at most ``chunks`` chunks of whole blocks, so that no chunk is empty."""
    return max(1, -(-rows // (chunks * block))) * block


def _pad(columns: int) -> int:
    return -(-columns // _TILE) * _TILE


def _padded(weight: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    if weight.shape == (rows, columns):
        return weight.detach()
    padded = weight.new_zeros((rows, columns))
    padded[: weight.shape[0], : weight.shape[1]] = weight.detach()
    return padded


def _flat_biases(x: torch.Tensor, biases: Sequence[torch.Tensor], pads: list[int]) -> torch.Tensor:
    flat = x.new_zeros(sum(pads[1:]))
    for part, bias in zip(flat.split(pads[1:]), biases, strict=False):
        part[: len(bias)] = bias.detach()
    return flat


def _split_layers(flat: torch.Tensor, shapes: list[torch.Size], params: dict[str, int]) -> list[torch.Tensor]:
    """Return each layer's gradient from the padded gradients of all layers, which lie one behind another."""
    layers, first = [], 0
    for layer, (rows, columns) in enumerate(shapes):
        pad_columns = params["pad_in"] if layer == 0 else params["width"]
        pad_rows = params["pad_out"] if layer == len(shapes) - 1 else params["width"]
        whole = flat[first : first + pad_rows * pad_columns].view(pad_rows, pad_columns)
        layers.append(whole[:rows, :columns])
        first += pad_rows * pad_columns
    return layers
