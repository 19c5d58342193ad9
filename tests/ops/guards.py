"""Memory with guard regions: what a kernel writes outside its buffers shows, and what it reads there is NaN."""

from __future__ import annotations

import torch

_GUARD = 67  # elements either side: odd, so that buffers also lose any alignment beyond their element's
_SENTINELS = {torch.float32: float("nan"), torch.float16: float("nan"), torch.int32: -(2**31), torch.uint8: 0xA5}


class Guarded:
    """Tensors in the middle of larger storages."""

    def __init__(self) -> None:
        self._storages: list[tuple[torch.Tensor, torch.Tensor]] = []

    def place(self, tensor: torch.Tensor | None) -> torch.Tensor | None:
        """A copy of the tensor with guards around it; None stays None."""
        if tensor is None:
            return None
        storage = torch.full((tensor.numel() + 2 * _GUARD,), _SENTINELS[tensor.dtype], dtype=tensor.dtype)
        view = storage[_GUARD : _GUARD + tensor.numel()].view(tensor.shape)
        view.copy_(tensor)
        self._storages.append((storage, self._guards(storage)))
        return view

    def unfilled(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A buffer for results; what stays unwritten reads as the sentinel."""
        placed = self.place(torch.full(shape, _SENTINELS[dtype], dtype=dtype))
        assert placed is not None
        return placed

    def check(self) -> None:
        """Every byte of every guard is as it was made."""
        for storage, before in self._storages:
            assert torch.equal(self._guards(storage), before)

    @staticmethod
    def _guards(storage: torch.Tensor) -> torch.Tensor:
        raw = storage.view(torch.uint8)
        width = _GUARD * storage.element_size()
        return torch.cat((raw[:width], raw[-width:])).clone()
