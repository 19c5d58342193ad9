"""The table of all ops with their named cases, which the tests and ``nerf-metal doctor --full`` run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nerf_metal.reference import RaySamples, TraversedRays
from nerf_metal.selftest.adam import ADAM_CASES, Table, compare_adam, run_adam
from nerf_metal.selftest.composite import (
    INTERVAL_CASES,
    compare_composite,
    compare_interval,
    run_composite,
    run_interval,
)
from nerf_metal.selftest.composite_cases import COMPOSITE_CASES, COMPOSITE_HALF_CASES
from nerf_metal.selftest.composite_expected import expected_composite
from nerf_metal.selftest.hashgrid import (
    HASHGRID_CASES,
    compare_hashgrid,
    compare_table_gradients,
    run_hashgrid,
    run_table_gradients,
)
from nerf_metal.selftest.importance import IMPORTANCE_CASES, compare_importance, run_importance
from nerf_metal.selftest.march import MARCH_CASES, compare_march, run_march
from nerf_metal.selftest.mlp import MLP_CASES, compare_mlp, run_mlp
from nerf_metal.selftest.modes import Mode
from nerf_metal.selftest.occupancy import OCCUPANCY_CASES, compare_occupancy, run_occupancy
from nerf_metal.selftest.sh import SH_CASES, compare_sh, run_sh
from nerf_metal.selftest.traverse import TRAVERSE_CASES, compare_traversed
from nerf_metal.selftest.visibility import VISIBILITY_CASES, compare_visibility, run_visibility

Results = Mapping[str, Any]
"""Tensors by name, on the device of the mode that made them."""


@dataclass(frozen=True)
class Op:
    """A set of cases of one op.

    Attributes:
        name: the name of the op and of its shader library.
        what: the name of this set of cases; empty for the op's main set.
        cases: the cases, each with a ``name``.
        run: runs a case in a mode and returns results by name.
        compare: compares results with the expected ones and returns errors divided by tolerances, by name. It raises
            :class:`nerf_metal.selftest.tolerances.MismatchError` if one exceeds 1.
        twins: whether the op has SIMD-group kernels and plain ones.
    """

    name: str
    what: str
    cases: tuple[Any, ...]
    run: Callable[[Any, Mode], Results]
    compare: Callable[[Any, Results], dict[str, float]]
    twins: bool = False


def _composite(what: str, cases: tuple[Any, ...]) -> Op:
    return Op(
        "composite",
        what,
        cases,
        lambda case, mode: run_composite(expected_composite(case), mode),
        lambda case, got: compare_composite(expected_composite(case), got, case.name),
        twins=True,
    )


def _hashgrid(what: str, dtype: torch.dtype, *, deterministic: bool) -> Op:
    return Op(
        "hashgrid",
        what,
        tuple(case for case in HASHGRID_CASES if case.dtype == dtype),
        lambda case, mode: run_hashgrid(case, mode, deterministic=deterministic),
        compare_hashgrid,
    )


OPS = (
    _composite("", COMPOSITE_CASES),
    _composite("half", COMPOSITE_HALF_CASES),
    Op("composite", "accuracy", INTERVAL_CASES, run_interval, compare_interval, twins=True),
    Op(
        "march",
        "",
        MARCH_CASES,
        lambda case, mode: run_march(case, mode)._asdict(),
        lambda case, got: compare_march(case, RaySamples(**got)),
    ),
    Op("importance", "", IMPORTANCE_CASES, run_importance, compare_importance),
    _hashgrid("", torch.float32, deterministic=False),
    _hashgrid("half", torch.float16, deterministic=False),
    _hashgrid("deterministic", torch.float32, deterministic=True),
    _hashgrid("half, deterministic", torch.float16, deterministic=True),
    Op("hashgrid", "table's gradients", HASHGRID_CASES, run_table_gradients, compare_table_gradients),
    Op("mlp", "", MLP_CASES, run_mlp, compare_mlp, twins=True),
    Op("sh", "", SH_CASES, run_sh, compare_sh),
    Op(
        "adam",
        "",
        ADAM_CASES,
        lambda case, mode: vars(run_adam(case, mode)),
        lambda case, got: compare_adam(case, Table(**got)),
    ),
    Op("occupancy", "", OCCUPANCY_CASES, run_occupancy, compare_occupancy),
    Op(
        "traverse",
        "",
        TRAVERSE_CASES,
        lambda case, mode: case.run(mode)._asdict(),
        lambda case, got: compare_traversed(case, TraversedRays(**got)),
    ),
    Op("visibility", "", VISIBILITY_CASES, run_visibility, compare_visibility),
)
"""All sets of cases: forward and backward, float32 and half, of every op."""
