"""Checks of arguments, with one form of message: the op, the argument, what was expected, what came, what to do.

No check reads the values of a tensor, because that would wait for the GPU. Each raises a TypeError if a type or dtype
is wrong, and a ValueError if anything else is.
"""

from __future__ import annotations

import math

import torch

from nerf_metal.util.limits import MOST_CASCADES

_LARGEST = torch.finfo(torch.float32).max


def check_tensor(op: str, name: str, value: object) -> torch.Tensor:
    """Return the value if it is a dense floating-point tensor."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"[{op}] {name} must be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"[{op}] {name} must be floating point, got {value.dtype}; convert it with .float()")
    check_dense(op, name, value)
    return value


def check_dense(op: str, name: str, tensor: torch.Tensor) -> None:
    """Check that a tensor is dense: a kernel reads its memory."""
    if tensor.layout != torch.strided:
        raise ValueError(f"[{op}] {name} must be a dense tensor, got {tensor.layout}; convert it with .to_dense()")


def check_shape(op: str, name: str, tensor: torch.Tensor, shape: tuple[int, ...], like: str = "") -> None:
    """Check that a tensor has exactly this shape."""
    if tensor.shape != shape:
        raise ValueError(f"[{op}] {name} must have shape {tuple(shape)}{like}, got {tuple(tensor.shape)}")


def check_vectors(op: str, name: str, value: object, count: str) -> None:
    """Check for a floating-point tensor of vectors of 3 numbers; the letter ``count`` stands for how many."""
    tensor = check_tensor(op, name, value)
    if tensor.dim() != 2 or tensor.shape[1] != 3:
        raise ValueError(f"[{op}] {name} must have shape ({count}, 3), got {tuple(tensor.shape)}")


def check_contiguous(op: str, name: str, tensor: torch.Tensor, advice: str = "") -> None:
    """Check that a tensor has no gaps, as a kernel that writes in place needs it."""
    if not tensor.is_contiguous():
        told = f" of shape {tuple(tensor.shape)}; {advice}" if advice else ""
        raise ValueError(f"[{op}] {name} must be contiguous, got strides {tensor.stride()}{told}")


def check_like(op: str, name: str, tensor: torch.Tensor, model_name: str, model: torch.Tensor) -> None:
    """Check that a tensor has the device and dtype of another argument."""
    if tensor.device != model.device:
        raise ValueError(
            f"[{op}] {name} must be on {model.device} like {model_name}, got {tensor.device}; "
            f"move it with .to({str(model.device)!r})"
        )
    if tensor.dtype != model.dtype:
        raise TypeError(
            f"[{op}] {name} must be {model.dtype} like {model_name}, got {tensor.dtype}; "
            f"convert it with .to({model.dtype})"
        )


def check_match(
    op: str, name: str, value: object, model_name: str, model: torch.Tensor, shape: tuple[int, ...], like: str = ""
) -> torch.Tensor:
    """Return the value if it is a tensor of this shape with the device and dtype of another argument.

    The usual case is one condition: three calls for each argument would take a third of the time of a small launch.
    """
    if (
        isinstance(value, torch.Tensor)
        and value.shape == shape
        and value.dtype == model.dtype
        and value.device == model.device
        and value.layout == torch.strided
    ):
        return value
    tensor = check_tensor(op, name, value)
    check_shape(op, name, tensor, shape, like)
    check_like(op, name, tensor, model_name, model)
    return tensor


def _shown(value: int) -> str:
    """Return an int as text, or its size: Python refuses to write an int of more than 4300 digits."""
    return str(value) if abs(value) < 10**80 else f"one of {value.bit_length()} bits"


def check_count(op: str, name: str, value: object, least: int = 1, most: int = 2**31 - 1) -> int:
    """Return the value if it is an int in these limits. Kernels count in 32 bits."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"[{op}] {name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"[{op}] {name} must be at least {least}, got {_shown(value)}")
    if value > most:
        raise ValueError(f"[{op}] {name} must be at most {most}, got {_shown(value)}")
    return value


def check_seed(op: str, seed: object) -> None:
    """Check for an int that torch's generators take or give: 64 bits, signed or unsigned."""
    check_count(op, "seed", seed, least=-(2**63), most=2**64 - 1)


def check_choice(op: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    """Check for one of these names."""
    if not isinstance(value, str):
        raise TypeError(f"[{op}] {name} must be one of {', '.join(choices)}, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"[{op}] {name} must be one of {', '.join(choices)}, got {value!r}")


def check_flags(op: str, **flags: object) -> None:
    """Check for True or False; 1 and 0 are accepted too."""
    for name, value in flags.items():
        if not isinstance(value, int):
            raise TypeError(f"[{op}] {name} must be True or False, got {type(value).__name__}")


def check_numbers(op: str, **numbers: object) -> None:
    """Check for real numbers that float32 can hold, before they are compared with limits of their own."""
    for name, value in numbers.items():
        if isinstance(value, int):
            if not -(2**63) <= value < 2**63:  # torch takes no more
                raise ValueError(f"[{op}] {name} must fit 64 bits as an int, got {_shown(value)}; write it as a float")
            continue
        try:
            if isinstance(value, str | bytes | bytearray):  # float() would read it
                raise TypeError
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"[{op}] {name} must be a number, got {type(value).__name__}") from None
        if _LARGEST < abs(number) < math.inf:
            raise ValueError(f"[{op}] {name} must be within float32, up to 3.4e38, got {number}")


def check_integers(
    op: str, name: str, value: object, shape: tuple[int, ...], model_name: str, model: torch.Tensor
) -> torch.Tensor:
    """Return the value if it is an int32 tensor of this shape on the device of another argument."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"[{op}] {name} must be a torch.Tensor, got {type(value).__name__}")
    if value.dtype != torch.int32:
        raise TypeError(f"[{op}] {name} must be torch.int32, got {value.dtype}; convert it with .int()")
    check_dense(op, name, value)
    check_shape(op, name, value, shape)
    if value.device != model.device:
        raise ValueError(
            f"[{op}] {name} must be on {model.device} like {model_name}, got {value.device}; "
            f"move it with .to({str(model.device)!r})"
        )
    return value


def check_indices(
    op: str, name: str, value: object, shape: tuple[int, ...], model_name: str, model: torch.Tensor
) -> torch.Tensor:
    """Return indices as int32, as kernels read them, if the value is an int32 or int64 tensor of this shape on the
    device of another argument. Indices beyond 32 bits are cut, not wrapped."""
    if isinstance(value, torch.Tensor) and value.dtype == torch.int64:
        value = value.clamp(-(2**31), 2**31 - 1).to(torch.int32)
    return check_integers(op, name, value, shape, model_name, model)


def check_grid(op: str, resolution: object, cascades: object) -> int:
    """Return the number of cells of all cascades of an occupancy grid, if it has a possible shape."""
    side = check_count(op, "resolution", resolution, least=8)
    if side % 4 or side > 256:  # 4: a block's cells; 256: eight cascades then still index in 32 bits
        raise ValueError(f"[{op}] resolution must be a multiple of 4 from 8 to 256, got {resolution}")
    cascades = check_count(op, "cascades", cascades)
    if cascades > MOST_CASCADES:
        raise ValueError(f"[{op}] cascades must be 1 to {MOST_CASCADES}, got {cascades}")
    return cascades * side**3


def check_kernel_dtype(op: str, name: str, tensor: torch.Tensor, backend: str, *, half: bool = False) -> None:
    """Check that the backend takes this dtype: kernels take float32, and some also float16."""
    known = (torch.float32, torch.float16) if half else (torch.float32,)
    if backend != "torch" and tensor.dtype not in known:
        names = " or ".join(str(d) for d in known)
        raise TypeError(
            f"[{op}] {name} must be {names} for backend {backend!r}, got {tensor.dtype}; "
            "convert it or use backend='torch'"
        )


def constant(tensor: torch.Tensor) -> torch.Tensor:
    """Return a contiguous tensor for a kernel without gradients. A copy has no graph."""
    return tensor if tensor.is_contiguous() else tensor.detach().contiguous()
