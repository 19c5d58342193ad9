"""Rules on the syntax tree: what clang's C++ for OpenCL takes and Metal, or our subset of it, does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from proof.conformance.clang import Finding, is_own

Node = dict[str, Any]

# A node of this kind is already wrong.
_KINDS = {
    "LambdaExpr": ("lambda", "lambdas came with Metal 3.2; write an inline function"),
    "GotoStmt": ("goto", "Metal has no goto; use loops and conditions"),
    "IndirectGotoStmt": ("goto", "Metal has no goto; use loops and conditions"),
    "GCCAsmStmt": ("asm", "Metal has no asm; write it out"),
    "MSAsmStmt": ("asm", "Metal has no asm; write it out"),
    "FileScopeAsmDecl": ("asm", "Metal has no asm; write it out"),
    "CXXNewExpr": ("new-delete", "Metal has no new; use an array of constant length"),
    "CXXDeleteExpr": ("new-delete", "Metal has no delete; use an array of constant length"),
    "CXXThrowExpr": ("exceptions", "Metal has no exceptions; return a value that says so"),
    "CXXTryStmt": ("exceptions", "Metal has no exceptions; return a value that says so"),
    "CXXDynamicCastExpr": ("rtti", "Metal has no dynamic_cast"),
    "CXXTypeidExpr": ("rtti", "Metal has no typeid"),
    "CXXNoexceptExpr": ("noexcept", "Metal has no noexcept; leave it out"),
    "CompoundLiteralExpr": ("vector-mix", "OpenCL's (float3)(x, y, z) is not Metal's; write float3(x, y, z)"),
    "StmtExpr": ("language-version", "an extension of GNU; write an inline function"),
    "VAArgExpr": ("variadic", "Metal has no variable arguments"),
}
_SPACE = re.compile(r"__generic\b")
_LONG = re.compile(r"\blong long\b|\b(?:un)?signed __int128\b|\b__int128\b")
_DOUBLE = re.compile(r"\b(?:long )?double\b")
_DECLARED = ("ParmVarDecl", "VarDecl", "FieldDecl", "TypedefDecl", "TypeAliasDecl", "FunctionDecl", "CXXMethodDecl")
_SCALARS = ("float", "half", "int", "uint", "unsigned int", "short", "ushort", "char", "uchar", "long", "ulong", "bool")
_FUNCTIONS = ("FunctionDecl", "CXXMethodDecl")
_CASTS = ("CStyleCastExpr", "CXXFunctionalCastExpr", "CXXStaticCastExpr", "CXXReinterpretCastExpr", "CXXConstCastExpr")


def place_of(node: Node) -> tuple[str, int]:
    """File and line of a node; of a macro's text the line that uses it."""
    places: tuple[Node, Node] = (node.get("loc") or {}, node.get("range", {}).get("begin", {}))
    for at in places:
        at = at.get("expansionLoc", at)
        if "file" in at:
            return at["file"], at["line"]
    return "", 0


def walk(node: Node, context: tuple[Node, ...] = ()) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    """Every node that someone wrote, with those it stands in."""
    stack = [(node, context)]
    while stack:
        node, context = stack.pop()
        yield node, context
        inner = (*context, node)
        stack += [(n, inner) for n in node.get("inner", ()) if n.get("kind") and not n.get("isImplicit")]


def is_kernel(node: Node) -> bool:
    """Whether a function is one."""
    return any(n.get("kind") in ("DeviceKernelAttr", "OpenCLKernelAttr") for n in node.get("inner", ()))


def syntax_findings(tree: Node) -> list[Finding]:
    """What the rules below say about each node of the shaders' own text."""
    found = []
    top = [n for n in tree.get("inner", ()) if n.get("kind") and not n.get("isImplicit") and not is_own(place_of(n)[0])]
    nodes = [pair for n in top for pair in walk(n)]
    kernels = {n["id"] for n, _ in nodes if n["kind"] == "FunctionDecl" and is_kernel(n)}
    for node, context in nodes:
        file, line = place_of(node)
        for rule, message in _node_rules(node, context, kernels):
            if not file or is_own(file):  # a macro of ours, or a type's own part: where it is used
                file, line = next(((f, n) for f, n in map(place_of, reversed(context)) if f and not is_own(f)), ("", 0))
            found.append(Finding(file, line, rule, message))
    return found + _recursion_findings(nodes)


def _recursion_findings(nodes: list[tuple[Node, tuple[Node, ...]]]) -> list[Finding]:
    """Calls that lead back to the function they stand in."""
    names = {n["id"]: n.get("mangledName", n["id"]) for n, _ in nodes if n["kind"] in _FUNCTIONS}
    calls: dict[str, list[tuple[str, Finding]]] = {}
    for node, context in nodes:
        callee = names.get(node.get("referencedDecl", {}).get("id") or node.get("referencedMemberDecl"))
        caller = next((names[n["id"]] for n in reversed(context) if n["kind"] in _FUNCTIONS), None)
        if callee is not None and caller is not None:
            message = "a function calls itself, by way of others perhaps; Metal has no recursion, write a loop"
            calls.setdefault(caller, []).append((callee, Finding(*place_of(node), "recursion", message)))
    found = []
    for caller, called in calls.items():
        for callee, finding in called:
            reached, queue = {callee}, [callee]
            while queue:
                new = {further for further, _ in calls.get(queue.pop(), ())} - reached
                reached |= new
                queue += new
            if caller in reached:
                found.append(finding)
    return found


def _node_rules(node: Node, context: tuple[Node, ...], kernels: set[str]) -> Iterator[tuple[str, str]]:
    kind = node["kind"]
    if kind in _KINDS:
        yield _KINDS[kind]
    if kind in _DECLARED or kind in _CASTS:
        yield from _type_rules(node)
    if kind in _RULES:
        yield from _RULES[kind](node, context)
    if kind == "DeclRefExpr" and node.get("referencedDecl", {}).get("id") in kernels:
        yield "kernel-call", "a kernel is neither called nor pointed to; call an inline function from both"


def _written_type(node: Node) -> str:
    """The type of a variable, or what a function returns."""
    kind = node.get("type", {}).get("qualType", "")
    return kind.split("(")[0] if node["kind"] in ("FunctionDecl", "CXXMethodDecl") else kind


def _type_rules(node: Node) -> Iterator[tuple[str, str]]:
    kind = _written_type(node)
    name = node.get("name", "")
    pointer = kind.rstrip().endswith(("*", "&", "]")) or "*" in kind or "&" in kind
    if _SPACE.search(kind) and pointer:
        yield (
            "address-space",
            f"the pointer or reference {name or 'here'} names no address space; write device, constant, thread or "
            "threadgroup before its type",
        )
    if _LONG.search(kind):
        yield "long-long", f"{name or 'this'} is of a type that Metal has not; long has 64 bits"
    elif _DOUBLE.search(kind):
        yield "double", f"{name or 'this'} is a double, which Metal has not; use float"
    if "::*" in kind:
        yield "member-pointer", f"{name or 'this'} points to a member; name the member instead"


def _variable(node: Node, context: tuple[Node, ...]) -> Iterator[tuple[str, str]]:
    storage = node.get("storageClass", "")
    name = node.get("name", "")
    local = any(n["kind"] in ("FunctionDecl", "CXXMethodDecl") for n in context)
    if storage == "register":
        yield "register", f"{name} is register, which Metal has not; leave it out"
    if storage == "extern":
        yield "storage-class", f"{name} is extern; a shader is one text, define it here"
    if storage == "static" and local:
        yield "static-local", f"{name} lives longer than its call; use constant at program scope, or a buffer"
    if "tls" in node:
        yield "storage-class", f"{name} is thread_local; every local variable is"


def _function(node: Node, context: tuple[Node, ...]) -> Iterator[tuple[str, str]]:
    kind = node["type"]["qualType"]
    if "noexcept" in kind and not node.get("explicitlyDefaulted"):
        yield "noexcept", "Metal has no noexcept; leave it out"
    if node.get("variadic"):
        yield "variadic", "Metal has no variable arguments; name each"
    if node.get("virtual"):
        yield "virtual", "Metal has no virtual functions; use a template"
    if node.get("name", "").startswith('operator""'):
        yield "user-literal", "Metal has no literals of your own; call a function"
    if is_kernel(node):
        if any(n["kind"] in ("FunctionTemplateDecl", "CXXRecordDecl") for n in context):
            yield (
                "kernel-template",
                f"kernel {node['name']} is a member, or a template that nothing instantiates; INSTANTIATE each case",
            )
        if node.get("storageClass") == "static" or node.get("inline"):
            yield "storage-class", f"kernel {node['name']} is static or inline, and cannot be found by its name"


def _record(node: Node, context: tuple[Node, ...]) -> Iterator[tuple[str, str]]:
    if node.get("bases"):
        yield "derived-class", f"{node.get('name', 'this')} is derived from another; make that a member"


def _field(node: Node, context: tuple[Node, ...]) -> Iterator[tuple[str, str]]:
    if node.get("isBitfield"):
        yield "bit-field", f"{node.get('name', 'this')} is a bit-field, which our subset has not; shift and mask a uint"


def _literal(node: Node, context: tuple[Node, ...]) -> Iterator[tuple[str, str]]:
    if "double" in node["type"]["qualType"]:
        yield "literal-suffix", "a float literal has no suffix, which the host reads as double; append f"


def _conversion(node: Node, context: tuple[Node, ...]) -> Iterator[tuple[str, str]]:
    """Copies and methods reach a struct by no named space, as which only a thread's own memory may be seen."""
    inner: list[Node] = node.get("inner", [])
    source = inner[0].get("type", {}).get("qualType", "") if inner else ""
    kind = re.sub(r"\b(?:__generic|const|volatile)\b", "", node["type"]["qualType"]).strip()
    if not _SPACE.search(node["type"]["qualType"]) or not re.search(r"__(?:global|local|constant)\b", source):
        return
    if node.get("valueCategory") == "lvalue" and kind not in _SCALARS:
        yield (
            "struct-copy",
            "a struct in device, threadgroup or constant memory is copied whole, or a function of it is called; "
            "read and write its members one by one",
        )


def _swizzle(node: Node, context: tuple[Node, ...]) -> Iterator[tuple[str, str]]:
    """The tree leaves the components' names out: they stand at the end of the expression's text."""
    end = node["range"]["end"]
    if "tokLen" not in end or is_own(end["file"]):
        return
    name = Path(end["read"]).read_bytes()[end["offset"] :][: end["tokLen"]].decode(errors="replace")
    if not re.fullmatch(r"[xyzw]{1,4}|[rgba]{1,4}", name):
        yield "vector-mix", f".{name} is OpenCL's; Metal names components x, y, z, w"


def _atomic(node: Node, context: tuple[Node, ...]) -> Iterator[tuple[str, str]]:
    yield "atomic", "_Atomic is C's; use atomic_uint or atomic_float with atomic_fetch_*_explicit"


_RULES: dict[str, Callable[[Node, tuple[Node, ...]], Iterator[tuple[str, str]]]] = {
    "VarDecl": _variable,
    "ParmVarDecl": _variable,
    "FunctionDecl": _function,
    "CXXMethodDecl": _function,
    "CXXRecordDecl": _record,
    "FieldDecl": _field,
    "FloatingLiteral": _literal,
    "ImplicitCastExpr": _conversion,
    "ExtVectorElementExpr": _swizzle,
    "AtomicExpr": _atomic,
}
