"""What Metal's language forbids and a host compiler does not see, found in the shaders without a Mac.

Clang reads each shader as C++ for OpenCL, whose address spaces are Metal's, with declarations of the library's names
that we use and no others. Further rules read clang's messages, its syntax tree, and its code with everything inlined.
Apple's compiler is another program: what passes here can still fail there, for a reason that has no rule.
"""

from __future__ import annotations

from pathlib import Path

from tools.conformance.clang import Compilation, compile_shader
from tools.conformance.diagnostics import diagnostic_findings
from tools.conformance.divergence import divergence_findings
from tools.conformance.flow import ATTRIBUTE_LEVELS, GROUP, Flow
from tools.conformance.ir import Function, Module, parse_module
from tools.conformance.kernels import (
    argument_findings,
    declared_kernels,
    kernel_findings,
    memory_findings,
)
from tools.conformance.race import race_findings
from tools.conformance.report import Finding, distinct
from tools.conformance.syntax import syntax_findings
from tools.conformance.written import unwritten_findings


def check(path: Path) -> list[Finding]:
    """Everything that is wrong with one shader, in the order of its text."""
    path = path.resolve()
    found = _ascii_findings(path)
    for compilation in compile_shader(path):
        found += _reading_findings(compilation)
    return distinct(found)


def _reading_findings(compilation: Compilation) -> list[Finding]:
    """What is wrong with one reading of a shader's templates."""
    found = diagnostic_findings(compilation.diagnostics)
    found += syntax_findings(compilation.tree)
    kernels = declared_kernels(compilation.tree)
    found += kernel_findings(kernels)
    found += argument_findings(compilation.tree, kernels)
    if compilation.ir:
        module = parse_module(compilation.ir, compilation.names)
        found += _recursion_findings(module)
        found += memory_findings(kernels, module)
        for kernel in kernels:
            levels = tuple(ATTRIBUTE_LEVELS.get(p.attribute, GROUP) for p in kernel.parameters)
            flow = Flow(module.functions[kernel.name], levels)
            found += divergence_findings(module, flow)
            found += unwritten_findings(module, flow)
            found += race_findings(module, flow)
    return found


def _ascii_findings(path: Path) -> list[Finding]:
    """torch hands Metal the text as ASCII, headers inlined."""
    message = "a character that is not ASCII, as which torch hands the text to Metal; replace it"
    lines = path.read_bytes().splitlines()
    return [Finding(str(path), n, "ascii", message) for n, line in enumerate(lines, 1) if not line.isascii()]


def _recursion_findings(module: Module) -> list[Finding]:
    """Everything is inlined but what calls itself."""
    calls = {name: _calls(module, function) for name, function in module.functions.items()}
    found = []
    for name in calls:
        for callee, debug in calls[name]:
            reached, queue = {callee}, [callee]
            while queue:
                new = {c for c, _ in calls[queue.pop()]} - reached
                reached |= new
                queue += new
            if name in reached:
                message = "a function calls itself, by way of others perhaps; Metal has no recursion, write a loop"
                found.append(Finding(*module.place(debug), "recursion", message))
    return found


def _calls(module: Module, function: Function) -> list[tuple[str, str]]:
    """The module's own functions that one calls, and where."""
    instructions = [i for block in function.blocks.values() for i in block.instructions]
    return [(i.callee[1:], i.debug) for i in instructions if i.callee[1:] in module.functions]
