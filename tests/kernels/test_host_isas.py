"""Host instruction sets: each can be forced, and an older processor meets none of the newer instructions."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nerf_metal import _C, kernels
from tests.kernels.libraries import isa_flags

pytestmark = pytest.mark.host_kernels

# The extension alone, without torch: a launch on two threads, then one in strict mode.
_LAUNCHES = """
import array, importlib.machinery, importlib.util, math, struct, sys
loader = importlib.machinery.ExtensionFileLoader("_C", sys.argv[1])
spec = importlib.util.spec_from_file_location("_C", sys.argv[1], loader=loader)
c = importlib.util.module_from_spec(spec)
loader.exec_module(c)
def buffer(values, kind="f"):
    return array.array(kind, values)
rays, samples = 70, 40
values = buffer([0.5 + i % 7 for i in range(rays * samples)])
rgbs = buffer([i % 5 / 5 for i in range(3 * rays * samples)])
starts = buffer([i % samples / samples for i in range(rays * samples)])
ends = buffer([i % samples / samples + 1 / samples for i in range(rays * samples)])
out = [buffer([0.0] * n) for n in (3 * rays, rays, rays, rays * samples, rays * samples)]
arrays = [values, rgbs, starts, ends, None, None, *out]
described = [a and (a.buffer_info()[0], len(a), 0) for a in arrays]
params = struct.pack("9If", rays, samples, 0, samples, 0, 0, 0, 0, 0, 0.0)
c.launch_host("composite_forward_f32", described, params, (rays, 1, 1), (32, 1, 1), 2)
opacity = [1 - math.exp(-sum(values[r * samples : (r + 1) * samples]) / samples) for r in range(rays)]
worst = max(abs(a - b) for a, b in zip(out[2], opacity))
c.launch_strict("composite_forward_simd_f32", described, params, (32 * rays, 1, 1), (32, 1, 1), "forward", 0)
strict = max(abs(a - b) for a, b in zip(out[2], opacity))
print(c.host_isa(), worst < 1e-5, strict < 1e-5)
"""


def launches(isa: str | None, *emulator: str) -> subprocess.CompletedProcess[str]:
    """The launches in another process, where the instruction set has not been chosen yet."""
    env = {k: v for k, v in os.environ.items() if k != "NERF_METAL_HOST_ISA"}
    env |= {} if isa is None else {"NERF_METAL_HOST_ISA": isa}
    command = [*emulator, os.path.realpath(sys.executable), "-S", "-c", _LAUNCHES, _C.__file__]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_isas_of_the_build_come_best_last() -> None:
    names = list(isa_flags())
    usable = _C.host_isas()
    assert usable[0] == names[0] == "baseline"
    assert usable == [name for name in names if name in usable]
    assert kernels.available_host_isas() == usable
    assert kernels.host_isa() in usable


@pytest.mark.parametrize("isa", [*_C.host_isas(), "", None])
def test_isa_can_be_forced(isa) -> None:
    result = launches(isa)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"{isa or _C.host_isas()[-1]} True True"


def test_unknown_isa() -> None:
    result = launches("avx9")
    assert result.returncode != 0
    usable = ", ".join(_C.host_isas())
    assert result.stderr.splitlines()[-1] == (
        f"ValueError: [host] NERF_METAL_HOST_ISA must be one of {usable} on this machine, got 'avx9'; "
        "unset it to use the best"
    )


def tool(name: str) -> str:
    """A program of binutils, or the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} of binutils, found none")
    return found


def symbols(path: Path, *options: str) -> list[tuple[str, str]]:
    """(kind, name) of what a file defines."""
    text = subprocess.run(
        [tool("nm"), "--defined-only", *options, str(path)], capture_output=True, text=True, check=True
    )
    return [(line.split()[-2], line.split()[-1]) for line in text.stdout.splitlines() if len(line.split()) >= 3]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads ELF objects")
@pytest.mark.parametrize("isa", [*isa_flags(), "strict"])
def test_kernel_objects_share_nothing(kernel_library: Path, isa) -> None:
    """A weak function compiled for a newer processor could be the one that the linker keeps for all."""
    objects = sorted(kernel_library.parent.glob(f"{isa}_*.o"))
    assert len(objects) > 1
    for path in objects:
        found = symbols(path)
        external = [(kind, name) for kind, name in found if not kind.islower() or kind in "vwu"]
        assert [name for _, name in external] == [f"nerf_metal_host_kernels_{path.stem}"]
        assert all(kind in "RD" for kind, _ in external)


_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
# AVX and later: opcodes that begin with v, registers of 256 and 512 bits. verr and verw are older.
_NEW = re.compile(r"\t(?:\{\w+\} )?(v(?!er[rw]\b)\w+|k(?:mov|or|and|xor|not|test|unpck|shift)\w*)(?:\s|$)|%[yz]mm\d")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for AVX instructions of x86-64")
def test_shared_functions_have_no_newer_instruction() -> None:
    """What the dynamic linker may replace or share runs on every processor: only local functions may use AVX."""
    path = Path(_C.__file__)
    shared = {name for kind, name in symbols(path, "-D") if kind in "TWVui"}
    assert "nerf_metal_execute" in shared
    local = {name for kind, name in symbols(path) if kind in "tT"}
    if not local:  # pip strips what it installs: its code cannot be told apart by function then
        pytest.skip("the extension is stripped; an editable install is not")
    text = subprocess.run(
        [tool("objdump"), "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
    )
    function, functions, new = "", set(), set()
    for line in text.stdout.splitlines():
        if header := _FUNCTION.match(line):
            function = header[1]
            functions.add(function)
        elif _NEW.search(line):
            new.add(function)
    assert len(functions & shared) > 10
    assert not new & shared
    if "avx2" in isa_flags():  # or the search above sees nothing
        assert any("range_composite" in name for name in new)
    owner = re.compile(r"range_|composite_|march_|importance_|_GLOBAL__|nerf_metal_host_kernels")
    assert not [name for name in new if not owner.search(name)]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="emulates older processors of x86-64")
@pytest.mark.parametrize("processor", ["Nehalem", "core2duo"])
def test_an_older_processor_runs_the_baseline(processor) -> None:
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if emulator is None:
        pytest.skip("needs qemu-x86_64 (qemu-user), found none")
    result = launches(None, emulator, "-cpu", processor)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "baseline True True"
