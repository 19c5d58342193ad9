"""Every refusal of the ops names the argument, what was expected and what came; here with its exact words."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

from nerf_metal import kernels, ops

R, S = 4, 8
EDGES = torch.arange(S + 1.0).expand(R, S + 1).contiguous()
COMPOSITE = {
    "t_starts": EDGES[:, :-1],
    "t_ends": EDGES[:, 1:],
    "rgbs": torch.zeros(R, S, 3),
    "sigmas": torch.zeros(R, S),
}
PACKED = {
    "t_starts": torch.zeros(S),
    "t_ends": torch.zeros(S),
    "rgbs": torch.zeros(S, 3),
    "sigmas": torch.zeros(S),
    "packed_info": torch.zeros(R, 2, dtype=torch.int32),
}
IMPORTANCE = {"t_edges": EDGES, "weights": torch.zeros(R, S), "num_samples": 4}
RAYS = {"rays_o": torch.zeros(R, 3), "rays_d": torch.zeros(R, 3), "aabb": torch.tensor([[-1.0] * 3, [1.0] * 3])}
MARCH = RAYS | {"num_samples": 4}
META = torch.device("meta")
CONVERT = "convert it or use backend='torch'"

# What is changed of the good arguments, exception, message after the op's name.
Refusal = tuple[dict[str, object], type[Exception], str]
COMPOSITE_REFUSALS: list[Refusal] = [
    ({"sigmas": None}, ValueError, "one of sigmas and alphas must be given, got neither"),
    ({"alphas": torch.zeros(R, S)}, ValueError, "one of sigmas and alphas must be given, got both"),
    ({"sigmas": 1.0}, TypeError, "sigmas must be a torch.Tensor, got float"),
    (
        {"sigmas": None, "alphas": torch.zeros(R, S, dtype=torch.int64)},
        TypeError,
        "alphas must be floating point, got torch.int64; convert it with .float()",
    ),
    ({"t_starts": []}, TypeError, "t_starts must be a torch.Tensor, got list"),
    ({"t_ends": None}, TypeError, "t_ends must be a torch.Tensor, got NoneType"),
    ({"rgbs": "red"}, TypeError, "rgbs must be a torch.Tensor, got str"),
    ({"t_starts": torch.zeros(S)}, ValueError, "t_starts must have shape (R, S), or (S,) with packed_info, got (8,)"),
    (
        PACKED | {"t_starts": torch.zeros(R, S)},
        ValueError,
        "t_starts must have shape (S,) with packed_info, got (4, 8)",
    ),
    (
        PACKED | {"t_starts": torch.zeros(1024), "t_ends": torch.zeros(1023)},
        ValueError,
        "t_ends must have shape (1024,) like t_starts, got (1023,)",
    ),
    (
        {"t_ends": EDGES[:, 1:].double()},
        TypeError,
        "t_ends must be torch.float32 like t_starts, got torch.float64; convert it with .to(torch.float32)",
    ),
    (
        {"t_ends": EDGES[:, 1:].to(META)},
        ValueError,
        "t_ends must be on cpu like t_starts, got meta; move it with .to('cpu')",
    ),
    ({"sigmas": torch.zeros(R, S + 1)}, ValueError, "sigmas must have shape (4, 8) like t_starts, got (4, 9)"),
    ({"rgbs": torch.zeros(R, S, 4)}, ValueError, "rgbs must have shape (4, 8, 3), got (4, 8, 4)"),
    (
        {"rgbs": torch.zeros(R, S, 3).half()},
        TypeError,
        "rgbs must be torch.float32 like sigmas, got torch.float16; convert it with .to(torch.float32)",
    ),
    (
        {"rgbs": torch.zeros(R, S, 3, device=META), "sigmas": torch.zeros(R, S, device=META)},
        ValueError,
        "sigmas must be on cpu like t_starts, got meta",
    ),
    (
        {"t_starts": EDGES[:, :-1].clone().requires_grad_()},
        ValueError,
        "t_starts and t_ends must be constants, got a tensor that requires grad; detach it",
    ),
    (
        {"t_ends": EDGES[:, 1:].clone().requires_grad_()},
        ValueError,
        "t_starts and t_ends must be constants, got a tensor that requires grad; detach it",
    ),
    (
        PACKED | {"packed_info": torch.zeros(R, 2)},
        TypeError,
        "packed_info must be an int32 or int64 tensor, got torch.float32",
    ),
    (
        PACKED | {"packed_info": torch.zeros(R, 3, dtype=torch.int32)},
        ValueError,
        "packed_info must have shape (R, 2), got (4, 3)",
    ),
    (
        PACKED | {"packed_info": torch.zeros(R, 2, dtype=torch.int32, device=META)},
        ValueError,
        "packed_info must be on cpu like t_starts, got meta",
    ),
    ({"background": torch.zeros(4)}, ValueError, "background must have shape (3,) or (4, 3), got (4,)"),
    ({"background": (1.0, 1.0, 1.0)}, TypeError, "background must be a torch.Tensor, got tuple"),
    (
        {"background": torch.zeros(3).half()},
        TypeError,
        "background must be torch.float32 like t_starts, got torch.float16; convert it with .to(torch.float32)",
    ),
    *(
        ({"early_stop_eps": eps}, ValueError, f"early_stop_eps must be in [0, 1), got {eps}; 0 keeps every sample")
        for eps in (-0.1, 1.0, float("nan"))
    ),
    (
        {k: v.double() for k, v in COMPOSITE.items()} | {"backend": "host"},
        TypeError,
        "sigmas must be torch.float32 or torch.float16 for backend 'host', got torch.float64; " + CONVERT,
    ),
    (
        {k: v.half() for k, v in COMPOSITE.items()} | {"backend": "host"},
        TypeError,
        "t_starts must be torch.float32 for backend 'host', got torch.float16; " + CONVERT,
    ),
    ({"backend": "cuda"}, ValueError, "backend must be one of auto, metal, host, torch, got 'cuda'"),
    (
        {k: v.to(META) for k, v in COMPOSITE.items()} | {"backend": "host"},
        ValueError,
        "backend 'host' needs tensors on cpu, got meta; move them with .to('cpu') or use backend='auto'",
    ),
]
IMPORTANCE_REFUSALS: list[Refusal] = [
    ({"weights": torch.zeros(S)}, ValueError, "weights must have shape (R, S) with S at least 1, got (8,)"),
    ({"weights": torch.zeros(R, 0)}, ValueError, "weights must have shape (R, S) with S at least 1, got (4, 0)"),
    ({"weights": 0}, TypeError, "weights must be a torch.Tensor, got int"),
    ({"t_edges": 0}, TypeError, "t_edges must be a torch.Tensor, got int"),
    (
        {"t_edges": torch.zeros(R, S)},
        ValueError,
        "t_edges must have shape (4, 9), one more column than weights, got (4, 8)",
    ),
    (
        {"t_edges": EDGES.double()},
        TypeError,
        "t_edges must be torch.float32 like weights, got torch.float64; convert it with .to(torch.float32)",
    ),
    ({"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
    ({"num_samples": 4.0}, TypeError, "num_samples must be an int, got float"),
    ({"seed": True}, TypeError, "seed must be an int, got bool"),
    *(
        ({"weight_floor": floor}, ValueError, f"weight_floor must be above 0, got {floor}; NeRF uses 1e-5")
        for floor in (0, -1.0, float("nan"), float("inf"))
    ),
    (
        {"t_edges": EDGES.half(), "weights": torch.zeros(R, S).half()} | {"backend": "host"},
        TypeError,
        "weights must be torch.float32 for backend 'host', got torch.float16; " + CONVERT,
    ),
]
RAY_REFUSALS: list[Refusal] = [  # of both ops that take rays
    ({"rays_o": torch.zeros(R, 2)}, ValueError, "rays_o must have shape (R, 3), got (4, 2)"),
    ({"rays_o": None}, TypeError, "rays_o must be a torch.Tensor, got NoneType"),
    ({"rays_d": torch.zeros(R + 1, 3)}, ValueError, "rays_d must have shape (4, 3) like rays_o, got (5, 3)"),
    (
        {"rays_d": torch.zeros(R, 3).double()},
        TypeError,
        "rays_d must be torch.float32 like rays_o, got torch.float64; convert it with .to(torch.float32)",
    ),
    ({"aabb": torch.zeros(6)}, ValueError, "aabb must have shape (2, 3), got (6,)"),
    (
        {"aabb": torch.zeros(2, 3, device=META)},
        ValueError,
        "aabb must be on cpu like rays_o, got meta; move it with .to('cpu')",
    ),
    *(
        ({"near": near}, ValueError, f"near must be finite and at least 0, got {near}")
        for near in (-0.5, float("nan"), float("inf"))
    ),
    *(
        (
            {"near": 2.0, "far": far},
            ValueError,
            f"far must be finite and above near=2.0, got {far}; 1e10 means no limit",
        )
        for far in (2.0, 1.0, float("nan"), float("inf"))
    ),
    (
        {k: v.half() for k, v in RAYS.items()} | {"backend": "host"},
        TypeError,
        "rays_o must be torch.float32 for backend 'host', got torch.float16; " + CONVERT,
    ),
]
MARCH_REFUSALS: list[Refusal] = [
    ({"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
    ({"num_samples": "4"}, TypeError, "num_samples must be an int, got str"),
    ({"seed": -(2**63) - 1}, ValueError, f"seed must be at least {-(2**63)}, got {-(2**63) - 1}"),
    ({"spacing": "log"}, ValueError, "spacing must be one of linear, disparity, got 'log'"),
    ({"spacing": "disparity"}, ValueError, "near must be above 0 for spacing='disparity', got 0.0"),
]
REFUSALS = [
    (op, good | change, error, message)
    for op, good, refusals in (
        (ops.composite_rays, COMPOSITE, COMPOSITE_REFUSALS),
        (ops.sample_importance, IMPORTANCE, IMPORTANCE_REFUSALS),
        (ops.intersect_rays, RAYS, RAY_REFUSALS),
        (ops.march_rays, MARCH, RAY_REFUSALS + MARCH_REFUSALS),
    )
    for change, error, message in refusals
]


@pytest.mark.parametrize(("op", "arguments", "error", "message"), REFUSALS)
def test_op_refuses_with_exact_words(
    op: Callable[..., object], arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(f'[{op.__name__}] {message}')}$"):
        op(**arguments)


@pytest.mark.skipif(kernels.why_not("metal") is None, reason="Metal is at hand: nothing refuses it")
def test_metal_is_refused_with_the_reason() -> None:
    message = f"[composite_rays] backend 'metal' cannot be used: {kernels.why_not('metal')}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ops.composite_rays(**COMPOSITE, backend="metal")


@pytest.mark.parametrize(
    ("op", "good"),
    [
        (ops.composite_rays, COMPOSITE),
        (ops.composite_rays, PACKED),
        (ops.sample_importance, IMPORTANCE),
        (ops.march_rays, MARCH),
        (ops.intersect_rays, RAYS),
    ],
)
def test_the_arguments_are_good_before_they_are_changed(op: Callable[..., object], good: dict[str, object]) -> None:
    assert op(**good, backend="host") is not None


def test_auto_leaves_other_float_types_to_the_reference() -> None:
    good = {k: v.double() for k, v in COMPOSITE.items()}
    assert ops.composite_rays(**good).rgb.dtype == torch.float64
    assert ops.march_rays(**(MARCH | {k: v.double() for k, v in RAYS.items()})).t_edges.dtype == torch.float64
