"""One step of the Adam optimizer: ``metal/adam.metal``, specified by ``nerf_metal/reference/adam.py``."""

from __future__ import annotations

import math

import torch

from nerf_metal import kernels, reference
from nerf_metal.ops.checks import (
    check_contiguous,
    check_count,
    check_flags,
    check_kernel_dtype,
    check_match,
    check_numbers,
    check_tensor,
)
from nerf_metal.reference.adam import bias_corrections

# A GPU's thread takes one vector of four. On the host 4 096 elements are two rounds of the kernel's 2 048, and 64 such
# threads, the fewest that are shared among processors, make a table of a million bytes.
_ELEMENTS_PER_THREAD = 4
_HOST_ELEMENTS_PER_THREAD = 4096
# Kernels divide by eps where a second moment is too small for a float32; far below any use, far above 2^-126.
_LEAST_EPS = 1e-30


def adam_step(
    param: torch.Tensor,
    grad: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    eps: float = 1e-15,
    sparse: bool = True,
    clear_grad: bool = True,
    half_copy: torch.Tensor | None = None,
    backend: str = "auto",
) -> None:
    """Update a tensor and its moments in place by one step of Adam (Kingma and Ba 2015, algorithm 1).

    :func:`nerf_metal.reference.adam_step` has the equations. The kernel passes over memory once. With ``sparse`` it
    only reads the gradient of elements whose gradient is 0.

    Args:
        param: values, any shape, contiguous, float32 (the ``torch`` backend takes any float dtype). It may require a
            gradient.
        grad: gradient of ``param``, with its shape, dtype and device. It is 0 afterwards if ``clear_grad``.
        exp_avg: first moment, like ``param``; 0 before the first step.
        exp_avg_sq: second moment, like ``param``; 0 before the first step.
        step: number of this step, from 1.
        lr: learning rate, in units of ``param`` per step, at least 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1). The default is instant-ngp's.
        eps: number added to the root of the second moment, at least 1e-30. The default is instant-ngp's.
        sparse: keep the value and both moments of each element whose gradient is exactly 0.
        clear_grad: set ``grad`` to 0 in the same pass.
        half_copy: float16, contiguous, shaped like ``param``. It receives the new values of updated elements; a value
            beyond 65 504 becomes infinite.
        backend: ``"auto"``, ``"metal"``, ``"host"`` or ``"torch"``.

    Raises:
        ValueError: if a shape, device, layout or number is wrong, or if the backend cannot be used.
        TypeError: if a type or dtype is wrong.
    """
    op = "adam_step"
    check_tensor(op, "param", param)
    shape = param.shape
    for name, tensor in (("grad", grad), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        check_match(op, name, tensor, "param", param, shape, " like param")
    _check_half(op, half_copy, param)
    written = [x for x in (param, grad, exp_avg, exp_avg_sq, half_copy) if x is not None]
    for name, tensor in zip(("param", "grad", "exp_avg", "exp_avg_sq", "half_copy"), written, strict=False):
        check_contiguous(op, name, tensor, "the step is in place: keep a .contiguous() tensor")
    check_count(op, "step", step)
    check_flags(op, sparse=sparse, clear_grad=clear_grad)
    check_options(op, lr, (beta1, beta2), eps)
    backend = kernels.resolve(op, backend, param)
    # float16 values do not move under small steps: auto leaves no way to do that by accident
    check_kernel_dtype(op, "param", param, backend)
    if backend == "torch":
        reference.adam_step(
            param,
            grad,
            exp_avg,
            exp_avg_sq,
            step=step,
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            sparse=sparse,
            clear_grad=clear_grad,
            half_copy=half_copy,
        )
        return
    rate, scale = bias_corrections(step, lr, beta1, beta2)
    per_thread = _ELEMENTS_PER_THREAD if backend == "metal" else _HOST_ELEMENTS_PER_THREAD
    params = {
        "n_elements": param.numel(),
        "elements_per_thread": per_thread,
        "sparse": int(bool(sparse)),
        "clear_grad": int(bool(clear_grad)),
        "has_half": int(half_copy is not None),
        "beta1": beta1,
        "beta2": beta2,
        "weight1": 1.0 - beta1,
        "weight2": 1.0 - beta2,
        "rate": rate,
        "scale": scale,
        "eps": eps,
    }
    buffers = [param, grad, exp_avg, exp_avg_sq, half_copy]
    kernels.launch("adam_step_f32", buffers, params, (-(-param.numel() // per_thread),), backend=backend)
    # Autograd sees no kernel write: what it saved of these tensors before is stale, and must not be used in silence.
    torch.autograd.graph.increment_version(written)


def check_options(op: str, lr: float, betas: tuple[float, float], eps: float) -> None:
    """Check the numbers that stay the same during a training.

    Raises:
        ValueError: if Adam cannot work with one of them.
    """
    check_numbers(op, lr=lr, beta1=betas[0], beta2=betas[1], eps=eps)
    if not (math.isfinite(lr) and lr >= 0.0):
        raise ValueError(f"[{op}] lr must be finite and at least 0, got {lr}")
    for name, beta in zip(("beta1", "beta2"), betas, strict=True):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"[{op}] {name} must be in [0, 1), got {beta}")
    if not _LEAST_EPS <= eps < math.inf:
        raise ValueError(f"[{op}] eps must be at least {_LEAST_EPS}, got {eps}; instant-ngp uses 1e-15")


def _check_half(op: str, half_copy: object, param: torch.Tensor) -> None:
    if half_copy is None:
        return
    tensor = check_tensor(op, "half_copy", half_copy)
    if tensor.dtype != torch.float16:
        raise TypeError(f"[{op}] half_copy must be torch.float16, got {tensor.dtype}; make it with param.half()")
    if tensor.shape != param.shape or tensor.device != param.device:
        raise ValueError(
            f"[{op}] half_copy must have shape {tuple(param.shape)} on {param.device} like param, "
            f"got {tuple(tensor.shape)} on {tensor.device}; make it with param.half()"
        )
