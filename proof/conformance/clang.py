"""Run clang over a shader: its diagnostics and its syntax tree, and from both what is wrong with the shader."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADERS = Path(__file__).resolve().parent / "headers"
METAL = Path(__file__).resolve().parents[2] / "metal"

# C++ for OpenCL has Metal's address spaces. It is C++17, Metal 3.1 is C++14: what came between is reported.
_FLAGS = shlex.split(
    "--target=spir64 -x clcpp -cl-std=clc++2021 -cl-no-stdinc -nostdinc -fsyntax-only -Xclang -ast-dump=json "
    "-Xclang -cl-ext=-all,+__opencl_c_generic_address_space,+cl_khr_fp16 -ferror-limit=0 -fno-color-diagnostics "
    "-Wall -Wextra -Wno-unused -Wno-unused-parameter -Wno-undefined-inline -Wno-undefined-internal "
    "-Wpre-c++17-compat -Wc++20-extensions -Wc++20-designator -Wc++23-extensions -Wc++26-extensions "
    "-Wc99-extensions -Wc11-extensions -Wgnu -Wvla -Wconditional-uninitialized -Wglobal-constructors"
)
# By its path: the package would load torch, and its extension.
_spec = importlib.util.spec_from_file_location("signature", METAL.parent / "nerf_metal" / "kernels" / "signature.py")
assert _spec is not None and _spec.loader is not None
signature = importlib.util.module_from_spec(_spec)
sys.modules["signature"] = signature  # its dataclasses look themselves up there
_spec.loader.exec_module(signature)

_DIAGNOSTIC = re.compile(r"^(.+?):(\d+):\d+: (fatal error|error|warning|note): (.*?)(?: \[(-W[^\]]+)\])?$")


@dataclass(frozen=True, order=True)
class Finding:
    """A place that Metal would refuse: which rule, what is there, what to do."""

    file: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{os.path.relpath(self.file)}:{self.line}: [{self.rule}] {self.message}"


@dataclass
class Diagnostic:
    """One of clang's messages, placed in the shader's own text."""

    file: str
    line: int
    error: bool
    text: str
    option: str
    notes: list[str]  # why, of each function that could have been meant


@dataclass(frozen=True)
class Compilation:
    """What clang makes of one shader."""

    diagnostics: list[Diagnostic]
    tree: dict[str, Any]


def compiler() -> list[str]:
    """The clang of the package ziglang, or the one that CLANGXX names."""
    if named := os.environ.get("CLANGXX"):
        return shlex.split(named)
    found = importlib.util.find_spec("ziglang")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("[conformance] the package ziglang must be installed, or CLANGXX name a clang++")
    return [str(Path(found.submodule_search_locations[0]) / "zig"), "clang"]


def compile_shader(path: Path, folder: Path) -> list[Compilation]:
    """Diagnostics and tree of one file, whose includes lie beside it or in metal/: one of each for every reading of its
    templates (``signature.readings``), since C++ for OpenCL has no template kernels.

    Args:
        path: the shader.
        folder: where the readings are written. A reading has the lines of the shader, and is called by its name.

    Raises:
        RuntimeError: where clang cannot run.
        ValueError: where a template cannot be read.
    """
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    compilations = []
    for k, reading in enumerate(signature.readings(text)):
        read = folder.resolve() / str(k) / path.name
        read.parent.mkdir(exist_ok=True)
        read.write_text(reading, encoding="utf-8", errors="surrogateescape")
        compilations.append(_compile(path, read))
    return compilations


def _compile(path: Path, read: Path) -> Compilation:
    include = ["-isystem", str(HEADERS), "-iquote", str(path.parent), "-I", str(METAL)]
    command = [*compiler(), *_FLAGS, *include, "-"]
    text = f'#include "keywords.h"\n#include "{read}"\n'
    try:
        run = subprocess.run(command, input=text, capture_output=True, text=True)
    except OSError as error:
        raise RuntimeError(
            f"[conformance] cannot run {command[0]}: {error.strerror}; set CLANGXX to a clang++"
        ) from error
    diagnostics = _parse_diagnostics(run.stderr.replace(str(read), str(path)))
    diagnostics = [d for d in diagnostics if d.error or not is_own(d.file)]
    if not run.stdout.startswith("{") or (run.returncode and not any(d.error for d in diagnostics)):
        raise RuntimeError(
            f"[conformance] CLANGXX must be a clang++ of version 19 or later, got {shlex.join(compiler())}, which "
            f"is no clang or failed: {run.stderr.strip().splitlines()[:1]}"
        )
    last = len(path.read_bytes().splitlines())
    for d in diagnostics:
        if is_own(d.file):  # the shader ends too early
            d.file, d.line = str(path), last
    return Compilation(diagnostics, load_tree(run.stdout, {str(read): str(path)}))


def is_own(file: str) -> bool:
    """Whether a place is in the checker's headers, not in a shader."""
    return file == "<stdin>" or file.startswith((f"{HEADERS}/", "<"))


def _parse_diagnostics(text: str) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    current: Diagnostic | None = None
    for match in filter(None, map(_DIAGNOSTIC.match, text.splitlines())):
        file, line, kind, message, option = match.groups()
        file = os.path.normpath(file)
        if kind != "note":
            current = Diagnostic(file, int(line), kind != "warning", message, option or "", [])
            found.append(current)
        elif current is not None:
            current.notes.append(message)
            if is_own(current.file) and not is_own(file):  # in a macro or a template of ours: who asked for it
                current.file, current.line = file, int(line)
    return found


def load_tree(text: str, names: dict[str, str]) -> dict[str, Any]:
    """The syntax tree, in which every place has its file and line: clang writes them only where they change. ``names``
    says what a file that was read is called; ``read`` keeps the file that the offsets lead into."""
    file, line = "", 0

    def place(node: dict[str, Any]) -> dict[str, Any]:
        nonlocal file, line
        if "offset" in node:
            file, line = node.get("file", file), node.get("line", line)
            node["file"], node["line"], node["read"] = names.get(file, file), line, file
        return node

    return json.loads(text, object_hook=place)
