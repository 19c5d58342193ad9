"""nerf_metal/_C.pyi, which type checkers read, and the extension that it describes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import nerf_metal
from nerf_metal import _C

pytestmark = pytest.mark.host_kernels

_STUB = ast.parse((Path(nerf_metal.__file__).parent / "_C.pyi").read_text(encoding="utf-8"))
FUNCTIONS = {node.name: node for node in _STUB.body if isinstance(node, ast.FunctionDef)}
# How the stub names a type, and what pybind11 says of it.
KINDS = {"str": r"str", "bool": r"bool", "int": r"int|.*SupportsInt.*"}


def said(name: str) -> tuple[list[str], str, str]:
    """Arguments, the kind of the result, and the text of a bound function, as pybind11 writes them."""
    head, _, text = (getattr(_C, name).__doc__ or "").partition("\n")
    match = re.fullmatch(rf"{name}\((.*)\) -> (.*)", head)
    assert match is not None, head
    arguments = re.sub(r"\[[^\]]*\]", "", match[1])  # whose commas part no arguments
    return [a for a in arguments.split(", ") if a], match[2], " ".join(text.split())


def test_they_have_the_same_names() -> None:
    bound = {name for name in dir(_C) if not name.startswith("_")}
    assert bound == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_and_texts_are_the_same(name: str) -> None:
    arguments, _, text = said(name)
    node = FUNCTIONS[name]
    assert [a.partition(":")[0] for a in arguments] == [a.arg for a in node.args.args]
    defaults = [a.rpartition(" = ")[2] for a in arguments if " = " in a]
    assert defaults == [ast.unparse(value) for value in node.args.defaults]
    assert text == " ".join((ast.get_docstring(node) or "").split())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_plain_types_are_the_same(name: str) -> None:
    """pybind11 calls what it only hands on ``object`` or ``handle``; the others are what C++ takes and gives."""
    arguments, result, _ = said(name)
    node = FUNCTIONS[name]
    for argument, wanted in zip(arguments, node.args.args, strict=True):
        kind = argument.partition(": ")[2].partition(" = ")[0]
        if kind not in ("object", "handle"):
            assert wanted.annotation is not None
            assert re.match(KINDS[ast.unparse(wanted.annotation)], kind), argument
    assert node.returns is not None
    assert ast.unparse(node.returns).partition("[")[0] == result.partition("[")[0]
