"""The modes of ``nerf_metal.selftest`` as marks of tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from nerf_metal import kernels
from nerf_metal.selftest.modes import HOST, STRICT, STRICT_SIMD, TORCH, Mode
from tests.kernels.double import on_double


class OnDouble(Mode):
    """The metal backend on its double, which takes CPU tensors."""

    @property
    def device(self) -> str:
        return "cpu"

    @contextlib.contextmanager
    def active(self) -> Iterator[str]:
        with on_double(), super().active() as backend:
            yield backend


DOUBLE = OnDouble("metal-double", backend="metal")


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
_WHY_NOT = kernels.why_not("metal")


def ON_METAL(test: Callable[..., None]) -> Callable[..., None]:  # noqa: N802  # used as the marks above
    """One test of each op, not one for each case: without a GPU a single line says what was not tested."""
    return pytest.mark.metal(pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))(test))
