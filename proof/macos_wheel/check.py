"""What must hold of a cross-built wheel, each as one line of a table."""

from __future__ import annotations

import ctypes
import re
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proof.macos_wheel import ToolError, macho
from proof.macos_wheel.build import LIBCXX, LIBSYSTEM, MACOS, PLATFORM, PYTHON, ROOT, SUFFIX, system_symbols

EXTENSION = f"nerf_metal/_C{SUFFIX}"
EXPORTS = {
    "_PyInit__C",
    "_nerf_metal_module",
    "_nerf_metal_execute",
    # csrc/strict/strict_api.h: what kernels of other modules call in strict mode.
    *(f"__ZN10nerf_metal6strict{name}" for name in (
        "11shared_cellERKNS0_11SharedArrayEmNS0_6AccessEi",
        "15matrix_multiplyENS0_10CollectiveEPKfS3_S3_Pfi",
        "4simdENS0_10CollectiveEfji",
        "6matrixENS0_10CollectiveERKNS0_15MatrixArgumentsEi",
        "7barrierENS0_10CollectiveEbi",
    )),
    # The linker's own.
    "___dso_handle",
    "__mh_dylib_header",
}  # fmt: skip
_PYBIND11 = re.compile(r"__Z(TI|TS|TV)?NK?8pybind11")  # its exceptions, which cross modules


@dataclass(frozen=True)
class Check:
    """A claim, and what is wrong with it or what was found."""

    name: str
    problem: str | None
    found: str


def listed(names: set[str] | frozenset[str]) -> str:
    """Some names of many, or an empty text."""
    some = sorted(names)
    return " ".join(some[:6]) + (f" and {len(some) - 6} more" if len(some) > 6 else "")


def in_cpython(symbol: str) -> bool:
    """Whether the interpreter exports this; CPython's API is the same on macOS."""
    name = symbol.removeprefix("_")
    return re.match(r"_?Py", name) is not None and hasattr(ctypes.pythonapi, name)


def check_image(image: macho.Image) -> Iterator[Check]:
    """Of the extension: will macOS load it?"""
    arm = image.architectures == ("ARM64",)
    yield Check("architecture", None if arm else f"must be ARM64 alone, got {image.architectures}", "arm64 alone")
    kinds = ("DYLIB", "BUNDLE")
    wrong = None if image.file_type in kinds else f"must be one of {kinds}, got {image.file_type}"
    yield Check("file type", wrong, f"MH_{image.file_type}")
    right = (image.platform, image.macos) == ("MACOS", MACOS)
    got = f"{image.platform} {image.macos[0]}.{image.macos[1]}"
    yield Check("oldest system", None if right else f"must be MACOS {MACOS[0]}.{MACOS[1]} like the tag, got {got}", got)
    yield Check("signature", None if image.signed else "must be there: arm64 loads nothing unsigned", "there")
    strange = set(image.libraries) - {LIBSYSTEM, LIBCXX}
    wrong = f"must be the system's two, got {listed(strange)}" if strange else None
    yield Check("libraries", wrong, listed(set(image.libraries)))

    known: dict[str, Callable[[str], bool]] = {
        library: symbols.__contains__ for library, symbols in system_symbols().items()
    }
    known[macho.FLAT] = in_cpython
    by_library: dict[str, set[str]] = {library: set() for library in known}
    for wanted in image.imports:
        by_library.setdefault(wanted.library, set()).add(wanted.symbol)
    for library, symbols in sorted(by_library.items()):
        unknown = {s for s in symbols if not known.get(library, lambda _: False)(s)}
        if library == macho.FLAT:
            name, why = "from CPython", "the interpreter does not export"
        else:
            name, why = f"from {Path(library).name}", "torch's libraries do not import, so that macOS may lack,"
        problem = f"needs what {why}: {listed(unknown)}" if unknown else None
        yield Check(name, problem, f"{len(symbols)} symbols, all there")
    exported = {s for s in image.exports if not _PYBIND11.match(s)}
    extra, missing = listed(exported - EXPORTS) or "none", listed(EXPORTS - exported) or "none"
    problem = None if exported == EXPORTS else f"extra: {extra}; missing: {missing}"
    yield Check("exports", problem, f"{len(exported)} and pybind11's exceptions")


def check_wheel(path: Path) -> list[Check]:
    """All checks of a wheel and of the extension inside.

    Raises:
        ToolError: for a file that is no wheel of this project.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tag = f"cp{PYTHON}-cp{PYTHON}-{PLATFORM}"
    right = path.name == f"{project['name'].replace('-', '_')}-{project['version']}-{tag}.whl"
    checks = [Check("tag", None if right else f"must be {tag}, got {path.name}", tag)]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with zipfile.ZipFile(path) as wheel:
                names = set(wheel.namelist())
                extension = Path(wheel.extract(EXTENSION, scratch))
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            raise ToolError(f"[check] {path} must be a wheel of this project for {PLATFORM}, got: {error}") from error
        checks += check_image(macho.read(extension))
        data = extension.read_bytes()
    other = {n for n in names if n.endswith((".py", ".so", ".dylib"))} - {EXTENSION}
    other ^= {str(file.relative_to(ROOT).as_posix()) for file in (ROOT / "nerf_metal").rglob("*.py")}
    checks.append(Check("files", f"differ from the checkout's: {listed(other)}" if other else None, "the checkout's"))
    shaders = sorted((ROOT / "metal").glob("[!.]*"))
    lost = {shader.name for shader in shaders if shader.read_bytes() not in data}
    problem = f"not embedded whole: {listed(lost)}" if lost else None
    return [*checks, Check("shaders", problem, f"{len(shaders)} embedded whole")]
