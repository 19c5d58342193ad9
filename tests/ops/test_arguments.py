"""Every refusal of the ops names the argument, what was expected and what came."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

from nerf_metal import kernels, ops
from tests.refusals import refusal

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

# What is changed of the good arguments, the exception, the argument that the message names, and what it says came.
Refusal = tuple[dict[str, object], type[Exception], str, str]
COMPOSITE_REFUSALS: list[Refusal] = [
    ({"sigmas": None}, ValueError, "sigmas", "neither"),
    ({"alphas": torch.zeros(R, S)}, ValueError, "sigmas", "both"),
    ({"sigmas": 1.0}, TypeError, "sigmas", "float"),
    (
        {"sigmas": None, "alphas": torch.zeros(R, S, dtype=torch.int64)},
        TypeError,
        "alphas",
        "torch.int64",
    ),
    ({"t_starts": []}, TypeError, "t_starts", "list"),
    ({"t_ends": None}, TypeError, "t_ends", "NoneType"),
    ({"rgbs": "red"}, TypeError, "rgbs", "str"),
    ({"t_starts": torch.zeros(S)}, ValueError, "t_starts", "(8,)"),
    (
        PACKED | {"t_starts": torch.zeros(R, S)},
        ValueError,
        "t_starts",
        "(4, 8)",
    ),
    (
        PACKED | {"t_starts": torch.zeros(1024), "t_ends": torch.zeros(1023)},
        ValueError,
        "t_ends",
        "(1023,)",
    ),
    (
        {"t_ends": EDGES[:, 1:].double()},
        TypeError,
        "t_ends",
        "torch.float64",
    ),
    (
        {"t_ends": EDGES[:, 1:].to(META)},
        ValueError,
        "t_ends",
        "meta",
    ),
    ({"sigmas": torch.zeros(R, S + 1)}, ValueError, "sigmas", "(4, 9)"),
    ({"rgbs": torch.zeros(R, S, 4)}, ValueError, "rgbs", "(4, 8, 4)"),
    (
        {"rgbs": torch.zeros(R, S, 3).half()},
        TypeError,
        "rgbs",
        "torch.float16",
    ),
    (
        {"rgbs": torch.zeros(R, S, 3, device=META), "sigmas": torch.zeros(R, S, device=META)},
        ValueError,
        "sigmas",
        "meta",
    ),
    (
        {"t_starts": EDGES[:, :-1].clone().requires_grad_()},
        ValueError,
        "t_starts",
        "requires grad",
    ),
    (
        {"t_ends": EDGES[:, 1:].clone().requires_grad_()},
        ValueError,
        "t_starts",
        "requires grad",
    ),
    (
        PACKED | {"packed_info": torch.zeros(R, 2)},
        TypeError,
        "packed_info",
        "torch.float32",
    ),
    (
        PACKED | {"packed_info": torch.zeros(R, 3, dtype=torch.int32)},
        ValueError,
        "packed_info",
        "(4, 3)",
    ),
    (
        PACKED | {"packed_info": torch.zeros(R, 2, dtype=torch.int32, device=META)},
        ValueError,
        "packed_info",
        "meta",
    ),
    ({"background": torch.zeros(4)}, ValueError, "background", "(4,)"),
    ({"background": (1.0, 1.0, 1.0)}, TypeError, "background", "tuple"),
    (
        {"background": torch.zeros(3).half()},
        TypeError,
        "background",
        "torch.float16",
    ),
    *(({"early_stop_eps": eps}, ValueError, "early_stop_eps", str(eps)) for eps in (-0.1, 1.0, float("nan"))),
    (
        {k: v.double() for k, v in COMPOSITE.items()} | {"backend": "host"},
        TypeError,
        "sigmas",
        "torch.float64",
    ),
    (
        {k: v.half() for k, v in COMPOSITE.items()} | {"backend": "host"},
        TypeError,
        "t_starts",
        "torch.float16",
    ),
    ({"backend": "cuda"}, ValueError, "backend", "cuda"),
    (
        {k: v.to(META) for k, v in COMPOSITE.items()} | {"backend": "host"},
        ValueError,
        "backend",
        "meta",
    ),
]
IMPORTANCE_REFUSALS: list[Refusal] = [
    ({"weights": torch.zeros(S)}, ValueError, "weights", "(8,)"),
    ({"weights": torch.zeros(R, 0)}, ValueError, "weights", "(4, 0)"),
    ({"weights": 0}, TypeError, "weights", "int"),
    ({"t_edges": 0}, TypeError, "t_edges", "int"),
    (
        {"t_edges": torch.zeros(R, S)},
        ValueError,
        "t_edges",
        "(4, 8)",
    ),
    (
        {"t_edges": EDGES.double()},
        TypeError,
        "t_edges",
        "torch.float64",
    ),
    ({"num_samples": 0}, ValueError, "num_samples", "0"),
    ({"num_samples": 4.0}, TypeError, "num_samples", "float"),
    ({"seed": True}, TypeError, "seed", "bool"),
    *(
        ({"weight_floor": floor}, ValueError, "weight_floor", str(floor))
        for floor in (0, -1.0, float("nan"), float("inf"))
    ),
    (
        {"t_edges": EDGES.half(), "weights": torch.zeros(R, S).half()} | {"backend": "host"},
        TypeError,
        "weights",
        "torch.float16",
    ),
]
RAY_REFUSALS: list[Refusal] = [  # of all ops that take rays
    ({"rays_o": torch.zeros(R, 2)}, ValueError, "rays_o", "(4, 2)"),
    ({"rays_o": None}, TypeError, "rays_o", "NoneType"),
    ({"rays_d": torch.zeros(R + 1, 3)}, ValueError, "rays_d", "(5, 3)"),
    (
        {"rays_d": torch.zeros(R, 3).double()},
        TypeError,
        "rays_d",
        "torch.float64",
    ),
    ({"aabb": torch.zeros(6)}, ValueError, "aabb", "(6,)"),
    (
        {"aabb": torch.zeros(2, 3, device=META)},
        ValueError,
        "aabb",
        "meta",
    ),
    *(({"near": near}, ValueError, "near", str(near)) for near in (-0.5, float("nan"), float("inf"))),
    *(
        (
            {"near": 2.0, "far": far},
            ValueError,
            "far",
            f"{far}",
        )
        for far in (2.0, 1.0, float("nan"), float("inf"))
    ),
    (
        {k: v.half() for k, v in RAYS.items()} | {"backend": "host"},
        TypeError,
        "rays_o",
        "torch.float16",
    ),
]
MARCH_REFUSALS: list[Refusal] = [
    ({"num_samples": 0}, ValueError, "num_samples", "0"),
    ({"num_samples": "4"}, TypeError, "num_samples", "str"),
    ({"seed": -(2**63) - 1}, ValueError, "seed", f"{-(2**63) - 1}"),
    ({"spacing": "log"}, ValueError, "spacing", "log"),
    ({"spacing": "disparity"}, ValueError, "near", "0.0"),
]
GRID_REFUSALS: list[Refusal] = [  # of both ops that take bits
    *(({"resolution": side}, ValueError, "resolution", str(side)) for side in (10, 260)),
    ({"resolution": 4}, ValueError, "resolution", "4"),
    ({"resolution": 8.0}, TypeError, "resolution", "float"),
    ({"cascades": 0}, ValueError, "cascades", "0"),
    ({"cascades": 9}, ValueError, "cascades", "9"),
    ({"cascades": 2}, ValueError, "bits", "(16,)"),
    ({"bits": None}, TypeError, "bits", "NoneType"),
    ({"bits": WORDS.long()}, TypeError, "bits", "torch.int64"),
    ({"seed": 1.0}, TypeError, "seed", "float"),
]
TRAVERSE_REFUSALS: list[Refusal] = [
    (
        {"bits": WORDS.to(META)},
        ValueError,
        "bits",
        "meta",
    ),
    *(({"step_size": step}, ValueError, "step_size", str(step)) for step in (0.0, -1.0, float("nan"), float("inf"))),
    *(
        (
            {"cone_angle": cone},
            ValueError,
            "cone_angle",
            f"{cone}",
        )
        for cone in (-0.1, float("nan"), float("inf"))
    ),
    ({"max_samples": 0}, ValueError, "max_samples", "0"),
    ({"max_samples_per_ray": 0}, ValueError, "max_samples_per_ray", "0"),
    ({"max_samples_per_ray": 65537}, ValueError, "max_samples_per_ray", "65537"),
    (
        {"rays_o": torch.zeros(1, 3).expand(32768, 3), "rays_d": torch.zeros(1, 3).expand(32768, 3)}
        | {"max_samples_per_ray": 65536},
        ValueError,
        "max_samples_per_ray",
        "32768 * 65536",
    ),
]
CELLS_REFUSALS: list[Refusal] = [
    ({"aabb": torch.zeros(6)}, ValueError, "aabb", "(6,)"),
    ({"aabb": None}, TypeError, "aabb", "NoneType"),
    ({"num_uniform": -1}, ValueError, "num_uniform", "-1"),
    ({"num_occupied": 0.5}, TypeError, "num_occupied", "float"),
    ({"first_cell": -1, "num_occupied": 0}, ValueError, "first_cell", "-1"),
    ({"first_cell": 5}, ValueError, "num_occupied", "2"),
    (
        {"aabb": RAYS["aabb"].double(), "backend": "host"},
        TypeError,
        "aabb",
        "torch.float64",
    ),
]
DENSITY_REFUSALS: list[Refusal] = [  # of both ops that take densities
    ({"density": [0.0]}, TypeError, "density", "list"),
    *(
        (
            {"density": torch.zeros(shape)},
            ValueError,
            "density",
            f"{shape}",
        )
        for shape in ((33,), (2, 32))
    ),
    ({"density": torch.zeros(64)[::2]}, ValueError, "density", "(2,)"),
]
UPDATE_REFUSALS: list[Refusal] = [
    ({"values": torch.zeros(3, 1)}, ValueError, "values", "(3, 1)"),
    ({"cells": torch.zeros(4, dtype=torch.int32)}, ValueError, "cells", "(4,)"),
    ({"cells": torch.zeros(3)}, TypeError, "cells", "torch.float32"),
    *(({"decay": decay}, ValueError, "decay", str(decay)) for decay in (-0.1, 1.1, float("nan"))),
]
PACK_REFUSALS: list[Refusal] = [
    (
        {"density": torch.zeros(512).double(), "backend": "host"},
        TypeError,
        "density",
        "torch.float64",
    ),
    *(({"threshold": value}, ValueError, "threshold", str(value)) for value in (-0.1, float("nan"), float("inf"))),
    ({"out": torch.zeros(15, dtype=torch.int32)}, ValueError, "out", "(15,)"),
    (
        {"out": torch.zeros(32, dtype=torch.int32)[::2]},
        ValueError,
        "out",
        "(2,)",
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
    ({"t_starts": None}, TypeError, "t_starts", "NoneType"),
    ({"t_starts": torch.zeros(5, 1)}, ValueError, "t_starts", "(5, 1)"),
    ({"t_ends": torch.zeros(4)}, ValueError, "t_ends", "(4,)"),
]
GATHER_REFUSALS: list[Refusal] = [
    ({"rays_o": torch.zeros(6)}, ValueError, "rays_o", "(6,)"),
    ({"rays_d": torch.zeros(3, 3)}, ValueError, "rays_d", "(3, 3)"),
    (
        {"source_info": INFO.long()},
        TypeError,
        "source_info",
        "torch.int64",
    ),
    ({"target_info": INFO[:1]}, ValueError, "target_info", "(1, 2)"),
    ({"num_samples": -1}, ValueError, "num_samples", "-1"),
    (
        {k: v.double() for k, v in GATHER.items() if isinstance(v, torch.Tensor) and v.is_floating_point()}
        | {"backend": "host"},
        TypeError,
        "rays_o",
        "torch.float64",
    ),
]
COUNT_REFUSALS: list[Refusal] = [
    ({"sigmas": torch.ones(5, 1)}, ValueError, "sigmas", "(5, 1)"),
    ({"sigmas": torch.ones(4)}, ValueError, "t_starts", "(5,)"),
    ({"packed_info": INFO[:1]}, ValueError, "packed_info", "(1, 2)"),
    ({"transmittance": torch.ones(2, 1)}, ValueError, "transmittance", "(2, 1)"),
    (
        {"transmittance": torch.ones(2).double()},
        TypeError,
        "transmittance",
        "torch.float64",
    ),
    ({"transmittance": torch.ones(4)[::2]}, ValueError, "transmittance", "(2,)"),
    *(
        (
            {"early_stop_eps": eps},
            ValueError,
            "early_stop_eps",
            f"{eps}",
        )
        for eps in (-0.1, 1.0, float("nan"))
    ),
]
COPY_REFUSALS: list[Refusal] = [
    ({"rows": torch.ones(5)}, ValueError, "rows", "(5,)"),
    ({"out": torch.ones(6, 3)}, ValueError, "out", "(6, 3)"),
    ({"out": torch.ones(4, 6).t()}, ValueError, "out", "(1, 6)"),
    ({"source_info": None}, TypeError, "source_info", "NoneType"),
    ({"target_info": INFO[:1]}, ValueError, "target_info", "(1, 2)"),
    (
        {"rows": torch.ones(5, 4).half(), "out": torch.ones(6, 4).half(), "backend": "host"},
        TypeError,
        "rows",
        "torch.float16",
    ),
]
REFUSALS = [
    (op, good | change, error, name, value)
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
    for change, error, name, value in refusals
]


@pytest.mark.parametrize(("op", "arguments", "error", "name", "value"), REFUSALS)
def test_op_refuses_by_name_and_value(
    op: Callable[..., object], arguments: dict[str, object], error: type[Exception], name: str, value: str
) -> None:
    with pytest.raises(error, match=refusal(op.__name__, name, value)):
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
