"""What torch's libraries for macOS export and import, by version: read from the wheels on the package index.

A wheel is 100 MB and more, and reading its libraries takes 10 s and 1 GB of memory: only the names are kept, in
``~/.cache/nerf_metal/torch_macos``; the environment variable below names another folder.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from proof.macos_wheel import ToolError, UnreachableError, macho
from proof.macos_wheel.build import LIBCXX, LIBSYSTEM, PYTHON, ROOT

CACHE_VARIABLE = "NERF_METAL_TORCH_CACHE"
_FORMAT = 1  # of the cached files
_SELECTION = [
    *("--only-binary=:all:", "--platform", "macosx_14_0_arm64", "--platform", "macosx_11_0_arm64"),  # 11: up to 2.10
    *("--python-version", f"{sys.version_info.major}.{sys.version_info.minor}"),
    *("--implementation", "cp", "--abi", f"cp{PYTHON}"),
]


@dataclass(frozen=True)
class Torch:
    """One version. ``exports`` are libtorch_cpu's, which the metal backend asks; ``imports`` those of all three
    libraries from the system's."""

    version: str
    wheel: str
    macos: list[int]
    exports: list[str]
    imports: dict[str, list[str]]


def release(version: str) -> tuple[int, ...]:
    """``2.14.1`` as numbers."""
    return tuple(int(part) for part in version.split("."))


def oldest_supported() -> str:
    """Of the dependency in ``pyproject.toml``, with a patch number as the index lists it."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'"torch>=(\d+\.\d+)"', text)
    assert found is not None
    return f"{found[1]}.0"


def cache_folder() -> Path:
    """Where names are kept."""
    chosen = os.environ.get(CACHE_VARIABLE)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else base / "nerf_metal" / "torch_macos"


def _pip(*arguments: str) -> str:
    """What pip prints.

    Raises:
        UnreachableError: where it fails, with its last line.
    """
    command = [sys.executable, "-m", "pip", *arguments, "--retries=1", "--disable-pip-version-check"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        said = run.stderr.strip().splitlines() or ["nothing"]
        raise UnreachableError(f"[torch] the package index must offer torch's macOS wheels, pip says: {said[-1]}")
    return run.stdout


def listed_versions() -> list[str]:
    """Supported releases on the index, oldest first.

    Raises:
        UnreachableError: where the index does not answer.
    """
    found = re.search(r"^Available versions: (.*)$", _pip("index", "versions", "torch", *_SELECTION), re.M)
    if found is None:
        raise UnreachableError("[torch] pip must list the available versions, got another text")
    releases = [v for v in found[1].split(", ") if re.fullmatch(r"[\d.]+", v)]
    return sorted((v for v in releases if release(v) >= release(oldest_supported())), key=release)


def read(version: str) -> Torch:
    """One version's names, from the cache or the index.

    Raises:
        ToolError: for a text that is no release.
        UnreachableError: where the index does not answer or has no such version.
    """
    if not re.fullmatch(r"\d+(\.\d+)+", version):
        raise ToolError(f"[torch] a version must be like {oldest_supported()}, got {version!r}")
    cached = cache_folder() / f"{version}-cp{PYTHON}-{_FORMAT}.json.gz"
    if cached.is_file():
        with gzip.open(cached, "rt", encoding="utf-8") as file:
            return Torch(**json.load(file))
    cached.parent.mkdir(parents=True, exist_ok=True)
    # Beside the cached file: half a gigabyte, which /tmp may not have; and a rename is only atomic within a volume.
    with tempfile.TemporaryDirectory(dir=cached.parent) as scratch:
        _pip("download", "--no-deps", *_SELECTION, f"--dest={scratch}", f"torch=={version}")
        (wheel,) = Path(scratch).glob("*.whl")
        torch = _read_wheel(version, wheel)
        new = Path(scratch) / cached.name
        with gzip.open(new, "wt", encoding="utf-8") as file:
            json.dump(asdict(torch), file)
        new.replace(cached)
    return torch


def _read_wheel(version: str, path: Path) -> Torch:
    images = {}
    with zipfile.ZipFile(path) as wheel:
        for name in ("torch_cpu", "c10", "torch_python"):
            library = Path(wheel.extract(f"torch/lib/lib{name}.dylib", path.parent))
            images[name] = macho.read(library)
            library.unlink()
    needed = [wanted for image in images.values() for wanted in image.imports if not wanted.weak]
    return Torch(
        version=version,
        wheel=path.name,
        macos=list(images["torch_cpu"].macos),
        exports=sorted(images["torch_cpu"].exports),
        imports={
            library: sorted({wanted.symbol for wanted in needed if wanted.library == library})
            for library in (LIBSYSTEM, LIBCXX)
        },
    )
