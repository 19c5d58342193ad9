"""What Metal's language forbids and a host compiler does not see, found in the shaders without a Mac.

Clang reads each shader as C++ for OpenCL, whose address spaces are Metal's, with declarations of the library's names
that we use and no others. Further rules read clang's messages and its syntax tree. A kernel's parameters are the
build's to check (``nerf_metal/kernels/signature.py``); what a thread does as it runs, as a barrier that not all reach,
is for strict mode to find.
Apple's compiler is another program: what passes here can still fail there, for a reason that has no rule.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from proof.conformance.clang import Finding, compile_shader
from proof.conformance.diagnostics import diagnostic_findings
from proof.conformance.syntax import syntax_findings


def check(path: Path) -> list[Finding]:
    """Everything that is wrong with one shader, in the order of its text."""
    found: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        for compilation in compile_shader(path.resolve(), Path(folder)):
            found += diagnostic_findings(compilation.diagnostics) + syntax_findings(compilation.tree)
    # Of one rule on one line the first is enough, and of clang's own messages those that no rule names.
    first = {(f.file, f.line, f.rule): f for f in reversed(found)}
    named = {(f.file, f.line) for f in found if f.rule != "clang"}
    return sorted(f for f in first.values() if f.rule != "clang" or (f.file, f.line) not in named)
