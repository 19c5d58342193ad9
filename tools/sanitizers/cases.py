"""What is run under the sanitizers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nerf_metal import kernels

# -s: what a process says before the sanitizer ends it is not pytest's to keep.
_PYTEST = ("-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "no:faulthandler")
# What the sanitizers themselves upset: memory that is kept after it is freed, to catch its use, counts as growth; the
# emulators of other processors lack the room for AddressSanitizer's shadow; and these build what they run themselves.
# The self-test on the double takes a minute and a half for named cases that the instruction sets run too.
_LEFT_OUT = ("test_fiber.py", "test_host_isas.py", "test_doctor_metal.py")
_DESELECTED = ("test_metal_encoding.py::test_torchs_own_handles_are_freed",)
_FUZZ = ("tests/kernels/test_launch_fuzz.py", "tests/ops/test_op_fuzz.py")


@dataclass(frozen=True)
class Case:
    """A process: Python's arguments and variables of its environment."""

    name: str
    says: str
    arguments: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)


def usual_isas() -> list[str]:
    """The first and the best host instruction set of this processor."""
    usable = kernels.available_host_isas()
    return sorted({usable[0], usable[-1]}, key=usable.index)


def cases(isas: Sequence[str]) -> tuple[Case, ...]:
    """Every named case of every op in each instruction set, the SIMD-group kernels, the launcher and the metal backend;
    any arguments. The longest comes first: two run side by side, and all others fit beside it."""
    selected = [f"--ignore={path}" for path in (*(f"tests/kernels/{name}" for name in _LEFT_OUT), *_FUZZ)]
    selected += [f"--deselect=tests/kernels/{name}" for name in _DESELECTED]
    return (
        Case("kernels", "launcher, strict mode's refusals, metal backend", (*_PYTEST, "tests/kernels", *selected)),
        Case("strict", "SIMD-group kernels on fibers", (*_PYTEST, "tests/ops", "-k", "strict-simd-forward")),
        *(Case(isa, "every named case", ("-m", "tests.ops.isa_check"), {"NERF_METAL_HOST_ISA": isa}) for isa in isas),
        Case("fuzz", "any arguments of every launch and every op", (*_PYTEST, *_FUZZ)),
    )
