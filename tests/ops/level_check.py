"""Compare the kernels of one processor level with the reference: ``python -m tests.ops.level_check``.

The level is chosen once for a process, by ``NERF_METAL_HOST_LEVEL``; the tests run this in one process for each. The
last line is JSON: the level in use and the worst error over tolerance.
"""

from __future__ import annotations

import json

import torch

from nerf_metal import kernels
from tests.ops.adam_cases import ADAM_CASES
from tests.ops.hashgrid_cases import HASHGRID_CASES
from tests.ops.march_cases import IMPORTANCE_CASES, MARCH_CASES
from tests.ops.mlp_cases import MLP_CASES, compare_mlp, run_mlp
from tests.ops.modes import HOST
from tests.ops.oracle import expected
from tests.ops.run_composite import compare
from tests.ops.test_adam_kernel import compare_adam, run_adam
from tests.ops.test_composite_kernel import (
    COMPARED,
    test_exp_is_within_its_promise,
    test_opacity_of_one_interval_is_accurate_at_every_depth,
)
from tests.ops.test_hashgrid_kernel import compare_hashgrid, run_hashgrid
from tests.ops.test_importance import compare_importance
from tests.ops.test_march_kernel import compare_march, march
from tests.ops.test_sh import SH_CASES, compare_sh, run_sh
from tests.ops.traverse_cases import TRAVERSE_CASES, compare_traversed


def main() -> None:
    """Run every named case."""
    torch.set_num_threads(1)
    test_exp_is_within_its_promise(HOST)
    test_opacity_of_one_interval_is_accurate_at_every_depth(HOST)
    ratios = {f"composite {case.name}": compare(expected(case), HOST) for case in COMPARED}
    ratios |= {f"march {case.name}": compare_march(case, march(case, HOST)) for case in MARCH_CASES}
    ratios |= {f"importance {case.name}": compare_importance(case, HOST) for case in IMPORTANCE_CASES}
    ratios |= {f"sh {case.name}": compare_sh(case, *run_sh(case, HOST)) for case in SH_CASES}
    ratios |= {f"traverse {case.name}": compare_traversed(case, case.run(HOST)) for case in TRAVERSE_CASES}
    ratios |= {f"adam {case.name}": compare_adam(case, run_adam(case, HOST)) for case in ADAM_CASES}
    ratios |= {f"mlp {case.name}": compare_mlp(case, run_mlp(case, HOST)) for case in MLP_CASES}
    ratios |= {f"hashgrid {case.name}": compare_hashgrid(case, run_hashgrid(case, HOST)) for case in HASHGRID_CASES}
    worst = max(value for case in ratios.values() for value in case.values())
    print(json.dumps({"level": kernels.host_level(), "cases": len(ratios), "worst": worst}))


if __name__ == "__main__":
    main()
