"""A kernel's parameters: each has an attribute of Metal's, of the type Metal gives it; and no more than fit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tools.conformance.clang import is_own, signature
from tools.conformance.ir import Module
from tools.conformance.report import Finding
from tools.conformance.syntax import Node, is_kernel, place_of

SHARED_LIMIT = 32768  # bytes of threadgroup memory, Metal feature set tables
_VECTOR = re.compile(r"^(?:const )?(?:__private )?(uint|ushort)([23]?)$")
_ONE_DIMENSION = ("thread_index_in_threadgroup", "thread_index_in_simdgroup", "simdgroup_index_in_threadgroup")
_GRID = tuple(name for name in signature.BUILTINS if name not in _ONE_DIMENSION)
_TRIPLE = re.compile(r"\b(?:float|half|u?int|u?short|u?char|u?long)3\b")
_ARGUMENTS = re.compile(r"(?:const )?__constant (\w+) &")
_BUFFER = re.compile(r"__(global|constant) [^*&]*[*&](?:__private)?$")


@dataclass(frozen=True)
class Parameter:
    """A kernel's parameter: its attribute, empty where it has none, and of a buffer the index."""

    name: str
    file: str
    line: int
    kind: str
    attribute: str
    index: int


@dataclass(frozen=True)
class KernelDeclaration:
    """Where a kernel stands, and its parameters in order."""

    name: str
    file: str
    line: int
    result: str
    parameters: tuple[Parameter, ...]


def declared_kernels(tree: Node) -> list[KernelDeclaration]:
    """The kernels of a shader, those in its headers too."""
    found = []
    queue = list(tree.get("inner", ()))
    for node in queue:
        if node.get("kind") == "NamespaceDecl":
            queue += node.get("inner", ())
        elif node.get("kind") == "FunctionDecl" and not is_own(place_of(node)[0]) and is_kernel(node):
            inner = [n for n in node["inner"] if n.get("kind") == "ParmVarDecl"]
            result = node["type"]["qualType"].split("(")[0].strip()
            found.append(KernelDeclaration(node["name"], *place_of(node), result, tuple(map(_parameter, inner))))
    return found


def _parameter(node: Node) -> Parameter:
    attribute, index = "", -1
    for annotation in (n for n in node.get("inner", ()) if n.get("kind") == "AnnotateAttr"):
        words = list(_values(annotation))
        attribute = next((w.strip('"') for w in words if w.startswith('"')), "")
        index = next((int(w) for w in words if re.fullmatch(r"-?\d+", w)), -1)
    return Parameter(node.get("name", ""), *place_of(node), node["type"]["qualType"], attribute, index)


def _values(node: Node) -> Iterator[str]:
    for inner in node.get("inner", ()):
        if inner.get("kind") in ("StringLiteral", "IntegerLiteral"):
            yield inner["value"]
        elif inner.get("kind") == "ConstantExpr" and re.fullmatch(r"-?\d+", str(inner.get("value", ""))):
            yield str(inner["value"])
        else:
            yield from _values(inner)


def kernel_findings(kernels: list[KernelDeclaration]) -> list[Finding]:
    """What is wrong with the kernels' heads."""
    found = []
    names: dict[str, int] = {}
    for kernel in kernels:
        if kernel.name in names and names[kernel.name] != kernel.line:
            message = f"kernel {kernel.name} is defined twice, and looked up by its name; give each its own"
            found.append(Finding(kernel.file, kernel.line, "kernel-overload", message))
        names.setdefault(kernel.name, kernel.line)
        if kernel.result != "void":
            message = f"kernel {kernel.name} returns {kernel.result}; it must return void"
            found.append(Finding(kernel.file, kernel.line, "kernel-return", message))
        found += _mixed_positions(kernel)
        taken: set[int] = set()
        for p in kernel.parameters:
            for rule, message in _parameter_rules(p, taken):
                found.append(Finding(p.file, p.line, rule, f"{kernel.name}: {message}"))
            taken.add(p.index)
    return found


def _mixed_positions(kernel: KernelDeclaration) -> Iterator[Finding]:
    """Positions and sizes of a grid have as many axes as each other (Metal Shading Language
    specification, attributes of a kernel function's arguments)."""
    forms = [(p, m[2] or 1) for p in kernel.parameters if p.attribute in _GRID and (m := _VECTOR.match(p.kind))]
    for p, axes in forms[1:]:
        first, expected = forms[0]
        if axes != expected:
            message = f"{kernel.name}: {p.name} has {axes} axes and {first.name} {expected}; give all as many"
            yield Finding(p.file, p.line, "attribute", message)


def _parameter_rules(p: Parameter, taken: set[int]) -> Iterator[tuple[str, str]]:
    name = p.name or "a parameter"
    if not p.attribute:
        yield "attribute", f"{name} has no attribute; say what it is, as [[buffer(0)]]"
    elif p.attribute == "buffer":
        if not _BUFFER.search(p.kind):
            yield "attribute", f"{name} is a buffer, so it must be a device pointer or a reference to constant"
        if _TRIPLE.search(p.kind):
            yield "buffer-type", f"{name} is made of vectors of 3, of which each takes the room of 4; read scalars"
        if p.index >= signature.MAX_BUFFERS or p.index < 0:
            yield "buffer-limit", f"{name} is buffer {p.index}; they count from 0 to {signature.MAX_BUFFERS - 1}"
        if p.index in taken:
            yield "buffer-index", f"{name} is buffer {p.index}, which another is already; number each once"
    elif p.attribute in signature.BUILTINS:
        form = _VECTOR.match(p.kind)
        if form is None or (p.attribute in _ONE_DIMENSION and form[2]):
            allowed = "uint or ushort" if p.attribute in _ONE_DIMENSION else "uint, uint2, uint3 or those of ushort"
            yield "attribute", f"{name} is {p.attribute}, so it must be {allowed}"


def argument_findings(tree: Node, kernels: list[KernelDeclaration]) -> list[Finding]:
    """Members of argument structs that the launcher does not pack."""
    structs = {match[1] for k in kernels for p in k.parameters if (match := _ARGUMENTS.match(p.kind))}
    found = []
    for record in tree.get("inner", ()):
        if record.get("kind") != "CXXRecordDecl" or record.get("name") not in structs:
            continue
        for member in record.get("inner", ()):
            if member.get("kind") == "FieldDecl" and member["type"]["qualType"] not in ("uint", "int", "float"):
                message = f"{member.get('name')} is in an argument struct, so it must be uint, int or float"
                found.append(Finding(*place_of(member), "buffer-type", message))
    return found


def memory_findings(kernels: list[KernelDeclaration], module: Module) -> list[Finding]:
    """Kernels whose threadgroup variables are more than a threadgroup may have."""
    found = []
    for kernel in kernels:
        function = module.functions.get(kernel.name)
        if function is None:
            continue
        text = " ".join(i.text for b in function.blocks.values() for i in b.instructions)
        names = set(re.findall(r'@(?:"[^"]+"|[\w.$-]+)', text))
        total = sum(size for name, size in module.shared.items() if name in names)
        if total > SHARED_LIMIT:
            message = f"{kernel.name} has {total} bytes of threadgroup memory; it may have {SHARED_LIMIT}"
            found.append(Finding(kernel.file, kernel.line, "threadgroup-limit", message))
    return found
