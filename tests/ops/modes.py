"""The ways a kernel is run in these tests, each of which must agree with the reference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from nerf_metal import kernels
from tests.kernels.double import on_double


@dataclass(frozen=True)
class Mode:
    """A backend; on the host, in which order the lanes of strict mode run; for Metal, whether on its double."""

    name: str
    backend: str = "host"
    order: str | None = None
    seed: int = 0
    simd: bool = False
    double: bool = False

    @property
    def device(self) -> str:
        return "mps" if self.backend == "metal" and not self.double else "cpu"

    @contextlib.contextmanager
    def active(self) -> Iterator[str]:
        """Run launches in this mode; gives the name of the backend.

        New memory is NaN meanwhile: what no kernel writes shows.
        """
        way: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if self.order is not None:
            way = kernels.strict_mode(self.order, self.seed, simd=self.simd)
        elif self.double:
            way = on_double()
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)
        try:
            with way:
                yield self.backend
        finally:
            torch.use_deterministic_algorithms(before)


TORCH = Mode("torch", backend="torch")
HOST = Mode("host")
METAL = Mode("metal", backend="metal")
DOUBLE = Mode("metal-double", backend="metal", double=True)
STRICT_PLAIN = Mode("strict-plain", order="forward")
STRICT_SIMD = Mode("strict-simd-forward", order="forward", simd=True)
STRICT = (
    STRICT_PLAIN,
    Mode("strict-plain-reversed", order="reversed"),
    Mode("strict-plain-shuffled", order="shuffled", seed=7),
    STRICT_SIMD,
    Mode("strict-simd-reversed", order="reversed", simd=True),
    *(Mode(f"strict-simd-shuffled-{seed}", order="shuffled", seed=seed, simd=True) for seed in (1, 2, 3)),
)


def _modes(*modes: Mode) -> pytest.MarkDecorator:
    marks = {"torch": (), "host": (pytest.mark.host_kernels,), "metal-double": (pytest.mark.metal_encoding,)}
    params = [pytest.param(mode, id=mode.name, marks=marks.get(mode.name, (pytest.mark.strict,))) for mode in modes]
    return pytest.mark.parametrize("mode", params)


KERNEL_MODES = _modes(HOST, DOUBLE, *STRICT)
ALL_MODES = _modes(TORCH, HOST, DOUBLE, *STRICT)
# Ops whose kernels have no SIMD-group form.
PLAIN_KERNEL_MODES = _modes(HOST, DOUBLE, *(mode for mode in STRICT if not mode.simd))
ALL_PLAIN_MODES = _modes(TORCH, HOST, DOUBLE, *(mode for mode in STRICT if not mode.simd))
# For what cannot depend on the order of lanes.
PLAIN_AND_SIMD = _modes(HOST, DOUBLE, STRICT_SIMD)
# One test of each op, not one for each case: without a GPU a single line says what was not tested.
ON_METAL = pytest.mark.skipif(kernels.why_not("metal") is not None, reason=str(kernels.why_not("metal")))
