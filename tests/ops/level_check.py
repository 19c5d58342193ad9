"""Every named case of every op, in one process: ``python -m tests.ops.level_check`` on the host's kernels.

Their processor level is chosen once for a process, by ``NERF_METAL_HOST_LEVEL``; the tests run this in one process for
each. The last line is JSON: the level in use and the worst error over tolerance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

import torch

from nerf_metal import kernels
from tests.ops import test_occupancy, test_visibility
from tests.ops.adam_cases import ADAM_CASES
from tests.ops.hashgrid_cases import HASHGRID_CASES
from tests.ops.march_cases import IMPORTANCE_CASES, MARCH_CASES
from tests.ops.mlp_cases import MLP_CASES, compare_mlp, run_mlp
from tests.ops.modes import HOST, Mode
from tests.ops.oracle import expected
from tests.ops.run_composite import compare
from tests.ops.test_adam_kernel import compare_adam, run_adam
from tests.ops.test_composite_kernel import (
    COMPARED,
    test_exp_is_within_its_promise,
    test_opacity_of_one_interval_is_accurate_at_every_depth,
)
from tests.ops.test_hashgrid_kernel import (
    MIXED,
    compare_hashgrid,
    run_hashgrid,
    test_threads_of_any_size_write_every_point_and_nothing_else,
)
from tests.ops.test_importance import compare_importance
from tests.ops.test_march_kernel import compare_march, march, test_bounds_alone_are_those_of_marching
from tests.ops.test_sh import SH_CASES, compare_sh, run_sh
from tests.ops.traverse_cases import TRAVERSE_CASES, compare_traversed

Ratios = dict[str, float]


def named_cases(mode: Mode) -> Iterator[tuple[str, Callable[[], Ratios]]]:
    """A name, and what compares: it gives errors over tolerance where those are measured, and fails above 1."""
    for case in COMPARED:
        yield f"composite {case.name}", lambda case=case: compare(expected(case), mode)
    yield "composite exp", _asserts(test_exp_is_within_its_promise, mode)
    yield "composite opacity", _asserts(test_opacity_of_one_interval_is_accurate_at_every_depth, mode)
    for case in MARCH_CASES:
        yield f"march {case.name}", lambda case=case: compare_march(case, march(case, mode))
        yield f"march bounds {case.name}", _asserts(test_bounds_alone_are_those_of_marching, case, mode)
    for case in IMPORTANCE_CASES:
        yield f"importance {case.name}", lambda case=case: compare_importance(case, mode)
    for case in SH_CASES:
        yield f"sh {case.name}", lambda case=case: compare_sh(case, *run_sh(case, mode))
    for case in TRAVERSE_CASES:
        yield f"traverse {case.name}", lambda case=case: compare_traversed(case, case.run(mode))
    for case in ADAM_CASES:
        yield f"adam {case.name}", lambda case=case: compare_adam(case, run_adam(case, mode))
    for case in MLP_CASES:
        yield f"mlp {case.name}", lambda case=case: compare_mlp(case, run_mlp(case, mode))
    for case in HASHGRID_CASES:
        yield f"hashgrid {case.name}", lambda case=case: compare_hashgrid(case, run_hashgrid(case, mode))
        if mode.backend == "metal":  # the host has one kernel for both
            fixed = partial(run_hashgrid, case, mode, deterministic=True)
            yield f"hashgrid fixed {case.name}", lambda case=case, fixed=fixed: compare_hashgrid(case, fixed())
    yield "hashgrid threads", _asserts(test_threads_of_any_size_write_every_point_and_nothing_else, 7, MIXED, mode)
    for count in (0, 1, 31, 33, 1000):
        yield f"occupancy cells {count}", _asserts(test_occupancy.test_cells_are_the_references, count, 12, 3, mode)
        update = test_occupancy.test_updates_are_the_references_in_any_order
        yield f"occupancy update {count}", _asserts(update, count, mode)
    yield "occupancy bits", _asserts(test_occupancy.test_bits_are_the_references, 12, 3, mode)
    for rays in (0, 1, 65, 300):
        gather = test_visibility.test_gathered_samples_are_the_references
        yield f"visibility gather {rays}", _asserts(gather, rays, mode)
        yield f"visibility count {rays}", _asserts(test_visibility.test_counts_are_the_references, 1e-4, rays, mode)
        yield f"visibility copy {rays}", _asserts(test_visibility.test_copied_rows_are_the_references, 3, rays, mode)


def _asserts(test: Callable[..., None], *arguments: object) -> Callable[[], Ratios]:
    def run() -> Ratios:
        test(*arguments)
        return {}

    return run


def main() -> None:
    """Run every named case."""
    torch.set_num_threads(1)
    ratios = {name: run() for name, run in named_cases(HOST)}
    worst = max(value for case in ratios.values() for value in case.values())
    print(json.dumps({"level": kernels.host_level(), "cases": len(ratios), "worst": worst}))


if __name__ == "__main__":
    main()
