"""What must hold of a cross-built wheel, each as one line of a table."""

from __future__ import annotations

import base64
import csv
import ctypes
import email
import hashlib
import io
import re
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.macos_wheel import macho
from tools.macos_wheel.build import LIBCXX, LIBSYSTEM, MACOS, PLATFORM, PYTHON, ROOT, SUFFIX, system_symbols
from tools.macos_wheel.errors import ToolError

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
_NATIVE = (b"\x7fELF", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"!<arch>", b"MZ")


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
    strange = set(image.libraries) - {LIBSYSTEM, LIBCXX}
    yield Check(
        "libraries",
        f"must be the system's two, got {listed(strange)}" if strange else None,
        listed(set(image.libraries)),
    )

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
        yield Check(
            name, f"needs what {why}: {listed(unknown)}" if unknown else None, f"{len(symbols)} symbols, all there"
        )
    exported = {s for s in image.exports if not _PYBIND11.match(s)}
    if exported == EXPORTS:
        problem = None
    else:
        problem = f"extra: {listed(exported - EXPORTS) or 'none'}; missing: {listed(EXPORTS - exported) or 'none'}"
    yield Check("exports", problem, f"{len(exported)} and pybind11's exceptions")


def check_extension(path: Path) -> Iterator[Check]:
    """The file of the extension: what macOS loads, its signature, the shaders inside."""
    yield from check_image(macho.read(path))
    yield Check("signature", macho.signature_problem(path), "ad hoc, the hash of every page is right")
    data = path.read_bytes()
    shaders = sorted((ROOT / "metal").glob("[!.]*"))
    missing = {shader.name for shader in shaders if shader.read_bytes() not in data}
    yield Check(
        "shaders", f"not embedded whole: {listed(missing)}" if missing else None, f"{len(shaders)} embedded whole"
    )


def _record_problem(wheel: zipfile.ZipFile, record: str) -> str | None:
    rows = {name: (digest, size) for name, digest, size in csv.reader(io.StringIO(wheel.read(record).decode()))}
    names = {name for name in wheel.namelist() if not name.endswith("/")}
    if set(rows) != names:
        return f"RECORD must list the wheel's files, differs in {listed(set(rows) ^ names)}"
    for name in names - {record}:
        data = wheel.read(name)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        if rows[name] != (f"sha256={digest}", str(len(data))):
            return f"{name} is not what RECORD says"
    return None


def check_files(wheel: zipfile.ZipFile, file_name: str) -> Iterator[Check]:
    """The wheel around the extension."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stem = f"{project['name'].replace('-', '_')}-{project['version']}"
    tag = f"cp{PYTHON}-cp{PYTHON}-{PLATFORM}"
    inside = email.message_from_bytes(wheel.read(f"{stem}.dist-info/WHEEL"))
    right = file_name == f"{stem}-{tag}.whl" and inside.get_all("Tag") == [tag] and inside["Root-Is-Purelib"] == "false"
    yield Check("tag", None if right else f"must be {tag}, got {file_name} with {inside.get_all('Tag')}", tag)
    metadata = email.message_from_bytes(wheel.read(f"{stem}.dist-info/METADATA"))
    got = {key: metadata[key] for key in ("Name", "Version", "Requires-Python")}
    want = dict(zip(got, (project["name"], project["version"], project["requires-python"]), strict=True))
    wanted = {re.sub(r"\s", "", text) for text in project["dependencies"]}
    needs = {re.sub(r"\s", "", text) for text in metadata.get_all("Requires-Dist", []) if ";" not in text}
    right = got == want and needs == wanted
    yield Check(
        "METADATA", None if right else f"must be {want} {wanted}, got {got} {needs}", f"{len(needs)} dependencies"
    )
    yield Check("RECORD", _record_problem(wheel, f"{stem}.dist-info/RECORD"), "every file's hash is right")
    names = set(wheel.namelist())
    python = {str(path.relative_to(ROOT).as_posix()) for path in (ROOT / "nerf_metal").rglob("*.py")}
    other = {name for name in names if name.endswith(".py")} ^ python
    yield Check("Python files", f"differ from the checkout's: {listed(other)}" if other else None, f"{len(python)}")
    native = {name for name in names if wheel.read(name).startswith(_NATIVE)}
    right = native == {EXTENSION}
    yield Check("machine code", None if right else f"must be {EXTENSION} alone, got {listed(native)}", EXTENSION)


def check_wheel(path: Path) -> list[Check]:
    """All checks of a wheel and of the extension inside.

    Raises:
        ToolError: for a file that is no wheel of this project.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with zipfile.ZipFile(path) as wheel:
                checks = list(check_files(wheel, path.name))
                extension = Path(wheel.extract(EXTENSION, scratch))
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            raise ToolError(f"[check] {path} must be a wheel of this project for {PLATFORM}, got: {error}") from error
        return checks + list(check_extension(extension))
