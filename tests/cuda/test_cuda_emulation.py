"""What the emulation and the launcher refuse: lanes that do not come, grids that are too large, memory that is full."""

from __future__ import annotations

import ctypes
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.cuda.libraries import EMULATION, Launcher, build_emulation, copy_test_shaders, launcher_of
from tests.kernels.libraries import METAL, compiler, run_all
from tools.cuda import build

pytestmark = pytest.mark.cuda
N = 32  # a SIMD-group
NEVER = 9  # of the shuffles that a lane makes: more than there are


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    folder = tmp_path_factory.mktemp("lost")
    metal = copy_test_shaders(folder / "metal")
    shutil.copy(Path(__file__).with_name("lost.metal"), metal)
    return launcher_of(build_emulation(folder, metal))


def lanes(launch: Launcher, kernel: str, when: int) -> np.ndarray:
    y = np.zeros(N, np.float32)
    launch(kernel, [y], struct.pack("2I", N, when), (N, 1, 1))
    return y


@pytest.mark.parametrize("kernel", ["lost_leaver", "lost_at_barrier"])
@pytest.mark.parametrize("when", range(4))
def test_a_lane_that_others_shuffle_from_must_come(launch: Launcher, kernel: str, when: int) -> None:
    with pytest.raises(RuntimeError, match=r"cuda: lane \d+ reads from lane 31, which gives none"):
        lanes(launch, kernel, when)
    assert (lanes(launch, kernel, NEVER) == N - 1).all()


def test_a_launch_does_not_fail_for_the_one_before(launch: Launcher) -> None:
    with pytest.raises(RuntimeError, match="cuda: threads wait for others that do not come"):
        lanes(launch, "lost_between", 0)
    assert (lanes(launch, "lost_leaver", NEVER) == N - 1).all()


@pytest.mark.parametrize(
    ("grid", "group"), [((2**32 - 1, 1, 1), (2, 1, 1)), ((2**16, 2**16, 1), (1, 1, 1)), ((2**31, 1, 1), (1, 1, 1))]
)
def test_a_grid_of_more_groups_than_cuda_takes(launch: Launcher, grid: tuple[int, ...], group: tuple[int, ...]) -> None:
    """In 32 bits the first two have no group at all."""
    words = r"cuda: grid must have at most 2147483647 groups, got {} x {} x {} threads in groups of {} x {} x {}"
    with pytest.raises(RuntimeError, match=words.format(*grid, *group)):
        launch("lost_leaver", [np.zeros(N, np.float32)], struct.pack("2I", N, NEVER), grid, group)


PLACE = """
#include "msl_cuda.h"
extern "C" __attribute__((visibility("default"))) int place(unsigned grid, unsigned group, unsigned block,
                                                            unsigned index, unsigned* out)
{
    blockDim = dim3(group);
    blockIdx = dim3(block);
    threadIdx = dim3(index, 0, 0);
    const auto ids = nerf_metal_cuda::thread_attributes(dim3(grid));
    out[0] = ids.position_in_grid.x;
    out[1] = ids.group_position_in_grid.x;
    return ids.inside;
}
"""


def test_places_at_the_end_of_the_largest_grid(launch: Launcher, tmp_path: Path) -> None:
    """Too many threads to run; so the attributes alone."""
    (tmp_path / "place.cpp").write_text(PLACE)
    library = tmp_path / "libplace.so"
    include = [f"-I{EMULATION}", *build.include_flags(tmp_path, METAL)]
    flags = ["-std=c++17", "-fPIC", "-shared", "-Wno-attributes", "-Wno-unknown-pragmas"]
    run_all([[compiler(), *flags, *include, str(tmp_path / "place.cpp"),
              str(build.ROOT / "csrc" / "strict" / "fiber.cpp"), "-o", str(library)]])  # fmt: skip
    place = ctypes.CDLL(str(library)).place
    grid, group = 2**32 - 1, 100
    last, rest = divmod(grid - 1, group)
    for index in range(group):
        out = (ctypes.c_uint32 * 2)()
        inside = place(ctypes.c_uint32(grid), group, last, index, out)
        assert inside == (index <= rest), index
        assert not inside or list(out) == [last * group + index, last], index


def test_a_launch_for_which_memory_lacks_keeps_none(launch: Launcher) -> None:
    n = 40 * 2**20  # floats, 160 MiB; the emulation has 256
    x, y = np.zeros(n, np.float32), np.zeros(n, np.float32)
    with pytest.raises(RuntimeError, match="cuda: cudaMalloc: out of memory"):
        launch("language_sqrt", [x, y], struct.pack("I", n), (1, 1, 1))
    launch("language_sqrt", [x, x], struct.pack("I", n), (1, 1, 1))
