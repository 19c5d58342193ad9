"""The modes in which kernels run. In each of them the results must agree with the reference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from nerf_metal import kernels

_BUSY = 512  # side of the matrices whose products keep a GPU busy before a queued input is ready


@dataclass(frozen=True)
class Mode:
    """A backend, the order of the lanes in strict mode, and the way inputs reach the device.

    Attributes:
        name: the name of the mode.
        backend: ``"torch"``, ``"host"`` or ``"metal"``.
        order: the order of the lanes in strict mode. None runs the usual host kernels.
        seed: the seed of a shuffled order.
        simd: true for the SIMD-group kernels, false for the plain ones, None for the backend's choice.
        offset: the number of elements in each input's storage before those of the case.
        queued: whether torch computes each input on the device, so that it may not be ready when a kernel is launched.
    """

    name: str
    backend: str = "host"
    order: str | None = None
    seed: int = 0
    simd: bool | None = None
    offset: int = 0
    queued: bool = False

    @property
    def device(self) -> str:
        """The device of the mode's tensors."""
        return "cpu" if self.backend == "torch" else kernels.device_of(self.backend)

    def place(self, x: torch.Tensor) -> torch.Tensor:
        """Return a copy on the mode's device, in a storage of its own.

        Strides and storage offset are part of the case and stay, which ``x.to`` does not do. The mode's offset is
        added.
        """
        stored = x.detach().as_strided((x.untyped_storage().nbytes() // x.element_size(),), (1,), 0)
        before = float("nan") if x.is_floating_point() else -1  # no kernel may read these elements
        moved = torch.full((self.offset + len(stored),), before, dtype=x.dtype)
        moved[self.offset :] = stored
        moved = moved.to(self.device)
        if self.queued:
            moved = _queued(moved)
        return moved.as_strided(x.shape, x.stride(), x.storage_offset() + self.offset)

    @contextlib.contextmanager
    def active(self) -> Iterator[str]:
        """Run all launches in this mode. Yield the name of the backend.

        New memory is filled with NaN meanwhile, so that an element that no kernel writes shows.
        """
        how: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self.order is not None:
            how = kernels.strict_mode(self.order, self.seed, simd=bool(self.simd))
        elif self.simd is not None:
            how = kernels.kernel_form(simd=self.simd)
        before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        # Only the filled memory is wanted: a torch op without a deterministic form is no failure.
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            with how:
                yield self.backend
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _queued(x: torch.Tensor) -> torch.Tensor:
    """Return the same numbers, bit for bit, as the result of work that waits for a chain of matrix products."""
    side = 1 if x.device.type == "cpu" else _BUSY
    busy = torch.zeros((side, side), device=x.device)
    for _ in range(4):
        busy = busy @ busy
    bits = x.view(
        {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    )  # exact, since no float arithmetic is involved
    turned = ~bits
    return torch.where(busy[0, 0] == 0, ~turned, turned).view(x.dtype)


TORCH = Mode("torch", backend="torch")
HOST = Mode("host")
METAL = Mode("metal", backend="metal")
METAL_PLAIN = Mode("metal, plain twins", backend="metal", simd=False)
STRICT_PLAIN = Mode("strict-plain", order="forward", simd=False)
STRICT_SIMD = Mode("strict-simd-forward", order="forward", simd=True)
STRICT = (
    STRICT_PLAIN,
    Mode("strict-plain-reversed", order="reversed", simd=False),
    Mode("strict-plain-shuffled", order="shuffled", seed=7, simd=False),
    STRICT_SIMD,
    Mode("strict-simd-reversed", order="reversed", simd=True),
    *(Mode(f"strict-simd-shuffled-{seed}", order="shuffled", seed=seed, simd=True) for seed in (1, 2, 3)),
)
