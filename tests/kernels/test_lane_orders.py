"""Kernels of SIMD-groups in five lane orders: none changes a bit, and none goes without one of its barriers."""

from __future__ import annotations

import functools
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from nerf_metal import kernels
from nerf_metal.selftest.composite import run_composite
from nerf_metal.selftest.composite_cases import CompositeCase
from nerf_metal.selftest.composite_expected import expected_composite
from nerf_metal.selftest.mlp import MlpCase, compare_mlp, run_mlp
from nerf_metal.selftest.modes import STRICT, Mode
from tests.kernels.launches import KERNELS
from tests.kernels.libraries import BARRIER, METAL, build_module, load_modules

pytestmark = pytest.mark.strict

ORDERS = [mode for mode in STRICT if mode.simd]
IN_EVERY_ORDER = pytest.mark.parametrize("mode", ORDERS, ids=lambda mode: mode.name)
COMPOSITE = [CompositeCase(f"{half}", 5, 70, half=half) for half in (False, True)]
MLP = MlpCase("two blocks", 24, (24, 32, 32, 7), activation="sigmoid")
LAUNCH = kernels.launch


def results(mode: Mode) -> list[torch.Tensor]:
    """Every kernel of SIMD-groups once, forward and backward."""
    found = list(run_mlp(MLP, mode).values())
    for case in COMPOSITE:
        found += run_composite(expected_composite(case), mode).values()
    return found


def test_no_order_changes_a_bit() -> None:
    assert [mode.order for mode in ORDERS] == ["forward", "reversed", *["shuffled"] * 3]
    with kernels.record_launches() as launched:
        first, *others = map(results, ORDERS)
    assert launched.ran >= {name for name, kernel in KERNELS.items() if kernel.collective}
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


# ---- a barrier less ----
PLACES = [
    (path.name, found.start(), path.read_text()[: found.start()].count("\n") + 1)
    for path in sorted(METAL.glob("[!.]*"))
    for found in BARRIER.finditer(path.read_text())
]


def mutant(folder: Path, place: int | None) -> Path:
    """The shader without the barrier at this place; its kernels are called ``<kernel>_without_<place>``."""
    metal = folder / f"{place}" / "metal"
    metal.mkdir(parents=True)
    for path in METAL.glob("*.h"):
        shutil.copy(path, metal)
    text = (METAL / "mlp.metal").read_text()
    (metal / "mlp.metal").write_text(
        re.sub(r"^kernel void (\w+)", rf"kernel void \1_without_{place}", text, flags=re.M)
    )
    if place is not None:
        name, start, _ = PLACES[place]
        text = (metal / name).read_text()
        found = BARRIER.match(text, start)
        assert found is not None
        (metal / name).write_text(text[:start] + text[found.end() :])
    return build_module(metal.parent, {})


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every mutant loaded, and the shader as it is under the name of none."""
    folder = tmp_path_factory.mktemp("mutants")
    with ThreadPoolExecutor(2) as pool:  # each runs two compilers
        load_modules(*pool.map(functools.partial(mutant, folder), [None, *range(len(PLACES))]))


def launch_without(place: int | None, kernel: str, *args, **kwargs) -> None:
    LAUNCH(f"{kernel}_without_{place}", *args, **kwargs)


def test_every_barrier_is_the_mlps() -> None:
    """The mutants above are of this one shader."""
    assert PLACES
    assert {name for name, _, _ in PLACES} <= {"mlp.metal", "mlp_simd.h", "mlp_simd_grad.h"}
    barriers = sum(path.read_text().count("barrier(") for path in METAL.glob("[!.]*"))
    assert len(PLACES) == barriers


@IN_EVERY_ORDER
def test_mutants_are_right_with_all_their_barriers(mutants, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "launch", functools.partial(launch_without, None))
    compare_mlp(MLP, run_mlp(MLP, mode))


@IN_EVERY_ORDER
@pytest.mark.parametrize("place", range(len(PLACES)), ids=[f"{name}-{line}" for name, _, line in PLACES])
def test_no_barrier_can_be_dropped(mutants, place: int, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "launch", functools.partial(launch_without, place))
    with pytest.raises(RuntimeError, match=rf"_without_{place}\] .*(since the last barrier|nobody has written)$"):
        run_mlp(MLP, mode)
