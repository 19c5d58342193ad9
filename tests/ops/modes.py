"""The modes of ``nerf_metal.selftest`` as marks of tests."""

from __future__ import annotations

import pytest

from nerf_metal import kernels
from nerf_metal.selftest.modes import HOST, STRICT, STRICT_SIMD, TORCH, Mode


def _modes(*modes: Mode) -> pytest.MarkDecorator:
    marks = {"torch": (), "host": (pytest.mark.host_kernels,)}
    params = [pytest.param(mode, id=mode.name, marks=marks.get(mode.name, (pytest.mark.strict,))) for mode in modes]
    return pytest.mark.parametrize("mode", params)


KERNEL_MODES = _modes(HOST, *STRICT)
ALL_MODES = _modes(TORCH, HOST, *STRICT)
# Ops whose kernels have no SIMD-group form.
PLAIN_KERNEL_MODES = _modes(HOST, *(mode for mode in STRICT if not mode.simd))
ALL_PLAIN_MODES = _modes(TORCH, HOST, *(mode for mode in STRICT if not mode.simd))
# For what cannot depend on the order of lanes.
PLAIN_AND_SIMD = _modes(HOST, STRICT_SIMD)
# One test of each op, not one for each case: without a GPU a single line says what was not tested.
ON_METAL = pytest.mark.skipif(kernels.why_not("metal") is not None, reason=str(kernels.why_not("metal")))
