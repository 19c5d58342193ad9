"""The checks of the extension find what would keep macOS from loading it, in small libraries made to be wrong."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from proof.macos_wheel import ToolError, macho
from proof.macos_wheel.build import LIBCXX, LIBSYSTEM, system_symbols, write_libcxx, zig
from proof.macos_wheel.check import EXPORTS, check_image

pytestmark = pytest.mark.cross_build
ARM64_MACOS_14 = "aarch64-macos.14.0"
MODULE = """
#include <stdlib.h>
#define EXPORT __attribute__((visibility("default")))
EXPORT void* PyInit__C(void) { return getenv("HOME"); }
"""


def run_zig(*arguments: str) -> subprocess.CompletedProcess[str]:
    """zig's result, with what it printed."""
    return subprocess.run([str(zig()), *arguments], capture_output=True, text=True)


def library(folder: Path, text: str, target: str = ARM64_MACOS_14, language: str = "c") -> Path:
    """A dynamic library for macOS, linked as the extension is."""
    source, made, out, stub = (folder / name for name in (f"source.{language}", "source.o", "library.so", "libc++.tbd"))
    source.write_text(text)
    write_libcxx(stub)
    link = ["-shared", "-nostdlib++", str(stub), "-undefined", "dynamic_lookup", str(made), "-o", str(out)]
    for arguments in (["-O2", "-fvisibility=hidden", "-c", str(source), "-o", str(made)], link):
        result = run_zig("c++" if language == "cpp" else "cc", f"--target={target}", *arguments)
        assert result.returncode == 0, result.stderr
    return out


def problems(image: macho.Image) -> dict[str, str]:
    """Without the exports, which these libraries do not have all."""
    return {c.name: c.problem for c in check_image(image) if c.problem is not None and c.name != "exports"}


def test_a_right_library_passes(tmp_path: Path) -> None:
    path = library(tmp_path, MODULE + "void* PyList_New(long);\nEXPORT void* f(void) { return PyList_New(1); }\n")
    image = macho.read(path)
    assert problems(image) == {}
    assert macho.Import("_PyList_New", macho.FLAT, False) in image.imports
    assert macho.Import("_getenv", LIBSYSTEM, False) in image.imports
    assert {"_PyInit__C", "_f"} <= image.exports
    assert image.signed


@pytest.mark.parametrize("name", ["aoti_torch_mps_get_kernel_function", "PyNerfMetal_NoSuchFunction", "malloc_of_mine"])
def test_a_function_that_only_another_library_has_is_noticed(tmp_path: Path, name: str) -> None:
    path = library(tmp_path, MODULE + f"void {name}(void);\nEXPORT void f(void) {{ {name}(); }}\n")
    assert problems(macho.read(path)) == {"from CPython": f"needs what the interpreter does not export: _{name}"}


def test_what_newer_systems_alone_may_have_is_noticed(tmp_path: Path) -> None:
    """``os_sync_wait_on_address`` came with macOS 14.4: libSystem's stub lists it, torch does not use it."""
    path = library(
        tmp_path, MODULE + "int os_sync_wait_on_address();\nEXPORT int f(void) { return os_sync_wait_on_address(); }\n"
    )
    found = problems(macho.read(path))
    assert set(found) == {"from libSystem.B.dylib"}
    assert found["from libSystem.B.dylib"].endswith(": _os_sync_wait_on_address")


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("aarch64-macos.15.0", {"oldest system": "must be MACOS 14.0 like the tag, got MACOS 15.0"}),
        ("x86_64-macos.14.0", {"architecture": "must be ARM64 alone, got ('X86_64',)"}),
    ],
)
def test_another_system_or_processor_is_noticed(tmp_path: Path, target: str, found: dict[str, str]) -> None:
    image = macho.read(library(tmp_path, MODULE, target=target))
    assert problems(replace(image, signed=True)) == found  # Intel's need no signature


def test_extra_and_missing_exports_are_noticed(tmp_path: Path) -> None:
    image = macho.read(library(tmp_path, MODULE + "EXPORT int leaked;\n"))
    (found,) = (c.problem for c in check_image(image) if c.name == "exports")
    assert found is not None
    assert found.startswith("extra: _leaked; missing: ")
    assert "_nerf_metal_execute" in found
    (right,) = (c.problem for c in check_image(replace(image, exports=frozenset(EXPORTS))) if c.name == "exports")
    assert right is None


def test_other_libraries_are_noticed(tmp_path: Path) -> None:
    image = macho.read(library(tmp_path, MODULE))
    wanted = macho.Import("_f", "@rpath/libtorch_cpu.dylib", False)
    found = problems(replace(image, libraries=(*image.libraries, wanted.library), imports=image.imports | {wanted}))
    assert set(found) == {"libraries", "from libtorch_cpu.dylib"}


def test_the_linker_knows_of_libcxx_what_torch_uses_alone(tmp_path: Path) -> None:
    source, stub, out = tmp_path / "source.c", tmp_path / "libc++.tbd", str(tmp_path / "o")
    write_libcxx(stub)
    link = ["cc", f"--target={ARM64_MACOS_14}", "-shared", "-nostdlib++", str(source), str(stub), "-o", out]
    known = min(system_symbols()[LIBCXX])
    for symbol, code in ((known, 0), ("__ZNSt3__113__hash_memoryEPKvm", 1)):
        source.write_text(f'void g(void) __asm__("{symbol}");\nvoid f(void) {{ g(); }}\n')
        result = run_zig(*link)
        assert result.returncode == code, result.stderr
        assert ("undefined symbol: " + symbol in result.stderr) == (code == 1)


def test_other_files_are_one_line(tmp_path: Path) -> None:
    for path in (Path(__file__), tmp_path / "nothing"):
        with pytest.raises(ToolError, match=r"^\[macho\] .* must be a Mach-O file, got another.*$"):
            macho.read(path)


def test_a_library_without_signature_is_noticed(tmp_path: Path) -> None:
    image = macho.read(library(tmp_path, MODULE))
    assert set(problems(replace(image, signed=False))) == {"signature"}
