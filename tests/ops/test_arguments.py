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
WORDS = torch.zeros(16, dtype=torch.int32)
TRAVERSE = RAYS | {"bits": WORDS, "resolution": 8, "step_size": 0.1}
CELLS = {"bits": WORDS, "aabb": RAYS["aabb"], "num_uniform": 3, "num_occupied": 2, "resolution": 8}
UPDATE = {"density": torch.zeros(512), "cells": torch.zeros(3, dtype=torch.int32), "values": torch.zeros(3)}
PACK = {"density": torch.zeros(512), "threshold": 0.5}
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
RAY_REFUSALS: list[Refusal] = [  # of all ops that take rays
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
GRID_REFUSALS: list[Refusal] = [  # of both ops that take bits
    *(
        ({"resolution": side}, ValueError, f"resolution must be a multiple of 4 from 8 to 256, got {side}")
        for side in (10, 260)
    ),
    ({"resolution": 4}, ValueError, "resolution must be at least 8, got 4"),
    ({"resolution": 8.0}, TypeError, "resolution must be an int, got float"),
    ({"cascades": 0}, ValueError, "cascades must be at least 1, got 0"),
    ({"cascades": 9}, ValueError, "cascades must be 1 to 8, got 9"),
    ({"cascades": 2}, ValueError, "bits must have shape (32,), got (16,)"),
    ({"bits": None}, TypeError, "bits must be a torch.Tensor, got NoneType"),
    ({"bits": WORDS.long()}, TypeError, "bits must be torch.int32, got torch.int64; convert it with .int()"),
    ({"seed": 1.0}, TypeError, "seed must be an int, got float"),
]
TRAVERSE_REFUSALS: list[Refusal] = [
    (
        {"bits": WORDS.to(META)},
        ValueError,
        "bits must be on cpu like rays_o, got meta; move it with .to('cpu')",
    ),
    *(
        ({"step_size": step}, ValueError, f"step_size must be finite and above 0, got {step}")
        for step in (0.0, -1.0, float("nan"), float("inf"))
    ),
    *(
        (
            {"cone_angle": cone},
            ValueError,
            f"cone_angle must be finite and at least 0, got {cone}; 0 keeps steps even",
        )
        for cone in (-0.1, float("nan"), float("inf"))
    ),
    ({"max_samples": 0}, ValueError, "max_samples must be at least 1, got 0"),
    ({"max_samples_per_ray": 0}, ValueError, "max_samples_per_ray must be at least 1, got 0"),
    ({"max_samples_per_ray": 65537}, ValueError, "max_samples_per_ray must be at most 65536, got 65537"),
    (
        {"rays_o": torch.zeros(1, 3).expand(32768, 3), "rays_d": torch.zeros(1, 3).expand(32768, 3)}
        | {"max_samples_per_ray": 65536},
        ValueError,
        "rays times max_samples_per_ray must be less than 2^31, got 32768 * 65536; march fewer rays at a time",
    ),
]
CELLS_REFUSALS: list[Refusal] = [
    ({"aabb": torch.zeros(6)}, ValueError, "aabb must have shape (2, 3), got (6,)"),
    ({"aabb": None}, TypeError, "aabb must be a torch.Tensor, got NoneType"),
    ({"num_uniform": -1}, ValueError, "num_uniform must be at least 0, got -1"),
    ({"num_occupied": 0.5}, TypeError, "num_occupied must be an int, got float"),
    ({"first_cell": -1, "num_occupied": 0}, ValueError, "first_cell must be at least 0, got -1"),
    ({"first_cell": 5}, ValueError, "num_occupied must be 0 with first_cell, got 2"),
    (
        {"aabb": RAYS["aabb"].double(), "backend": "host"},
        TypeError,
        "aabb must be torch.float32 for backend 'host', got torch.float64; " + CONVERT,
    ),
]
DENSITY_REFUSALS: list[Refusal] = [  # of both ops that take densities
    ({"density": [0.0]}, TypeError, "density must be a torch.Tensor, got list"),
    *(
        (
            {"density": torch.zeros(shape)},
            ValueError,
            f"density must have shape (cascades * resolution^3,), a multiple of 32, got {shape}",
        )
        for shape in ((33,), (2, 32))
    ),
    ({"density": torch.zeros(64)[::2]}, ValueError, "density must be contiguous, got strides (2,)"),
]
UPDATE_REFUSALS: list[Refusal] = [
    ({"values": torch.zeros(3, 1)}, ValueError, "values must have shape (M,), got (3, 1)"),
    ({"cells": torch.zeros(4, dtype=torch.int32)}, ValueError, "cells must have shape (3,), got (4,)"),
    ({"cells": torch.zeros(3)}, TypeError, "cells must be torch.int32, got torch.float32; convert it with .int()"),
    *(
        ({"decay": decay}, ValueError, f"decay must be 0 to 1, got {decay}; instant-ngp uses 0.95")
        for decay in (-0.1, 1.1, float("nan"))
    ),
]
PACK_REFUSALS: list[Refusal] = [
    (
        {"density": torch.zeros(512).double(), "backend": "host"},
        TypeError,
        "density must be torch.float32 for backend 'host', got torch.float64; " + CONVERT,
    ),
    *(
        ({"threshold": value}, ValueError, f"threshold must be finite and at least 0, got {value}")
        for value in (-0.1, float("nan"), float("inf"))
    ),
    ({"out": torch.zeros(15, dtype=torch.int32)}, ValueError, "out must have shape (16,), got (15,)"),
    (
        {"out": torch.zeros(32, dtype=torch.int32)[::2]},
        ValueError,
        "out must be contiguous, got strides (2,)",
    ),
]
INFO = torch.tensor([[0, 2], [2, 3]], dtype=torch.int32)
TIMES = {"t_starts": torch.arange(5.0), "t_ends": torch.arange(5.0) + 1}
GATHER = (
    {"rays_o": torch.zeros(2, 3), "rays_d": torch.ones(2, 3), "source_info": INFO, "target_info": INFO}
    | TIMES
    | {"num_samples": 5}
)
COUNT = {"sigmas": torch.ones(5), "packed_info": INFO, "transmittance": torch.ones(2), "early_stop_eps": 0.1} | TIMES
COPY = {"rows": torch.ones(5, 4), "source_info": INFO, "target_info": INFO, "out": torch.zeros(6, 4)}
TIME_REFUSALS: list[Refusal] = [  # of both ops that take packed samples
    ({"t_starts": None}, TypeError, "t_starts must be a torch.Tensor, got NoneType"),
    ({"t_starts": torch.zeros(5, 1)}, ValueError, "t_starts must have shape (S,), got (5, 1)"),
    ({"t_ends": torch.zeros(4)}, ValueError, "t_ends must have shape (5,) like t_starts, got (4,)"),
]
GATHER_REFUSALS: list[Refusal] = [
    ({"rays_o": torch.zeros(6)}, ValueError, "rays_o must have shape (R, 3), got (6,)"),
    ({"rays_d": torch.zeros(3, 3)}, ValueError, "rays_d must have shape (2, 3) like rays_o, got (3, 3)"),
    (
        {"source_info": INFO.long()},
        TypeError,
        "source_info must be torch.int32, got torch.int64; convert it with .int()",
    ),
    ({"target_info": INFO[:1]}, ValueError, "target_info must have shape (2, 2), got (1, 2)"),
    ({"num_samples": -1}, ValueError, "num_samples must be at least 0, got -1"),
    (
        {k: v.double() for k, v in GATHER.items() if isinstance(v, torch.Tensor) and v.is_floating_point()}
        | {"backend": "host"},
        TypeError,
        "rays_o must be torch.float32 for backend 'host', got torch.float64; " + CONVERT,
    ),
]
COUNT_REFUSALS: list[Refusal] = [
    ({"sigmas": torch.ones(5, 1)}, ValueError, "sigmas must have shape (S,), got (5, 1)"),
    ({"sigmas": torch.ones(4)}, ValueError, "t_starts must have shape (4,) like sigmas, got (5,)"),
    ({"packed_info": INFO[:1]}, ValueError, "packed_info must have shape (2, 2), got (1, 2)"),
    ({"transmittance": torch.ones(2, 1)}, ValueError, "transmittance must have shape (R,), got (2, 1)"),
    (
        {"transmittance": torch.ones(2).double()},
        TypeError,
        "transmittance must be torch.float32 like sigmas, got torch.float64; convert it with .to(torch.float32)",
    ),
    ({"transmittance": torch.ones(4)[::2]}, ValueError, "transmittance must be contiguous, got strides (2,)"),
    *(
        (
            {"early_stop_eps": eps},
            ValueError,
            f"early_stop_eps must be in [0, 1), got {eps}; 0 reaches every sample",
        )
        for eps in (-0.1, 1.0, float("nan"))
    ),
]
COPY_REFUSALS: list[Refusal] = [
    ({"rows": torch.ones(5)}, ValueError, "rows must have shape (S, C), got (5,)"),
    ({"out": torch.ones(6, 3)}, ValueError, "out must have shape (K, 4) like rows, got (6, 3)"),
    ({"out": torch.ones(4, 6).t()}, ValueError, "out must be contiguous, got strides (1, 6)"),
    ({"source_info": None}, TypeError, "source_info must be a torch.Tensor, got NoneType"),
    ({"target_info": INFO[:1]}, ValueError, "target_info must have shape (2, 2), got (1, 2)"),
    (
        {"rows": torch.ones(5, 4).half(), "out": torch.ones(6, 4).half(), "backend": "host"},
        TypeError,
        "rows must be torch.float32 for backend 'host', got torch.float16; " + CONVERT,
    ),
]
REFUSALS = [
    (op, good | change, error, message)
    for op, good, refusals in (
        (ops.composite_rays, COMPOSITE, COMPOSITE_REFUSALS),
        (ops.sample_importance, IMPORTANCE, IMPORTANCE_REFUSALS),
        (ops.intersect_rays, RAYS, RAY_REFUSALS),
        (ops.march_rays, MARCH, RAY_REFUSALS + MARCH_REFUSALS),
        (ops.traverse_grid, TRAVERSE, RAY_REFUSALS + GRID_REFUSALS + TRAVERSE_REFUSALS),
        (ops.occupancy_cells, CELLS, GRID_REFUSALS + CELLS_REFUSALS),
        (ops.occupancy_update, UPDATE, DENSITY_REFUSALS + UPDATE_REFUSALS),
        (ops.occupancy_pack, PACK, DENSITY_REFUSALS + PACK_REFUSALS),
        (ops.visibility_gather, GATHER, TIME_REFUSALS + GATHER_REFUSALS),
        (ops.visibility_count, COUNT, TIME_REFUSALS + COUNT_REFUSALS),
        (ops.visibility_copy, COPY, COPY_REFUSALS),
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
        (ops.traverse_grid, TRAVERSE),
        (ops.occupancy_cells, CELLS),
        (ops.occupancy_pack, PACK),
        (ops.visibility_gather, GATHER),
        (ops.visibility_count, COUNT),
    ],
)
def test_the_arguments_are_good_before_they_are_changed(op: Callable[..., object], good: dict[str, object]) -> None:
    assert op(**good, backend="host") is not None


def test_auto_leaves_other_float_types_to_the_reference() -> None:
    good = {k: v.double() for k, v in COMPOSITE.items()}
    assert ops.composite_rays(**good).rgb.dtype == torch.float64
    assert ops.march_rays(**(MARCH | {k: v.double() for k, v in RAYS.items()})).t_edges.dtype == torch.float64
