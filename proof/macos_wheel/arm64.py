"""Every named case on an emulated arm64 processor: ``python -m proof.macos_wheel.arm64 EMULATOR PROGRAM``.

The host backend's launches go to ``launches_program.cpp`` instead of the extension, so that the kernels of another
processor are compared with the references as those of this one are. The last line is that of ``tests.ops.isa_check``.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence

import torch

from nerf_metal import _C
from tests.ops import isa_check

CODES = {torch.float32: 0, torch.float16: 1, torch.int32: 2, torch.uint32: 3, torch.uint8: 4, torch.bool: 4}
FORMATS = {"float": "<f", "uint": "<I", "int": "<i"}


def _counted(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


class Elsewhere:
    """``_C.launch_host`` by way of another program."""

    def __init__(self, command: Sequence[str]) -> None:
        self._program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.launches = 0

    def _get(self, count: int) -> bytes:
        assert self._program.stdout is not None
        data = self._program.stdout.read(count)
        if len(data) != count:
            raise RuntimeError(f"[arm64] the program must answer every launch, it ended with {self._program.wait()}")
        return data

    def launch_host(
        self,
        kernel: str,
        buffers: Sequence[torch.Tensor | None],
        params: Mapping[str, int | float],
        grid: tuple[int, ...],
        group: tuple[int, ...],
        threads: int,
        long_threads: bool,
    ) -> None:
        """As the extension's."""
        _, described, struct_name, _ = _C.kernel_table()[kernel]
        members = _C.struct_table()[struct_name]
        packed = b"".join(struct.pack(FORMATS[kind], params[name]) for name, kind in members)
        out = [_counted(kernel.encode()), _counted(packed), struct.pack("<6I", *(*grid, 1, 1)[:3], *(*group, 1, 1)[:3])]
        out.append(struct.pack("<3I", threads, long_threads, len(buffers)))
        memory = []  # of each buffer: address and bytes up to its storage's end
        for tensor in buffers:
            if tensor is None or tensor.numel() == 0:
                memory.append((0, 0))
            else:
                offset = tensor.storage_offset() * tensor.element_size()
                memory.append((tensor.data_ptr(), int(tensor.untyped_storage().nbytes() - offset)))
            code = 0 if tensor is None else CODES[tensor.dtype]
            out.append(struct.pack("<2I", tensor is not None, code) + _counted(ctypes.string_at(*memory[-1])))
        assert self._program.stdin is not None
        self._program.stdin.write(b"".join(out))
        self._program.stdin.flush()
        error = self._get(struct.unpack("<I", self._get(4))[0])
        if error:
            raise ValueError(error.decode())
        for (address, size), (_, _, writable) in zip(memory, described, strict=True):
            if writable:
                ctypes.memmove(address, self._get(size), size)
        self.launches += 1


def main() -> None:
    """All cases; then how many launches they were."""
    elsewhere = Elsewhere(sys.argv[1:])
    _C.launch_host = elsewhere.launch_host  # type: ignore[assignment]  # ops give it tensors and members by name
    _C.host_isa = lambda: "arm64"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        isa_check.main()
    print(f"{elsewhere.launches} launches")
    print(said.getvalue(), end="")


if __name__ == "__main__":
    main()
