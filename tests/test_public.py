"""What is public: names that exist, loaded when they are used; and examples that use nothing else."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import nerf_metal

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MODULES = [name for name in nerf_metal.__all__ if not name.startswith("__")]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_there(name: str) -> None:
    module = importlib.import_module(f"nerf_metal.{name}")
    assert module.__all__ and len(set(module.__all__)) == len(module.__all__)
    for each in module.__all__:
        thing = getattr(module, each)
        assert getattr(thing, "__doc__", None), f"nerf_metal.{name}.{each} must say what it is"


def test_public_modules_are_loaded_when_they_are_used() -> None:
    code = (
        "import sys, nerf_metal\n"
        "assert set(nerf_metal.__all__) <= set(dir(nerf_metal))\n"
        "assert 'torch' not in sys.modules and 'nerf_metal.ops' not in sys.modules\n"
        "assert nerf_metal.ops.mlp and 'nerf_metal.nn' not in sys.modules\n"
        "from nerf_metal import nn\n"
        "assert nn is nerf_metal.nn is sys.modules['nerf_metal.nn']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_a_name_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match=r"'nnn'.* nn"):
        nerf_metal.nnn  # noqa: B018
    assert (Path(nerf_metal.__file__).parent / "py.typed").is_file()


def private_names(source: str) -> list[str]:
    """Names of nerf_metal that this text imports or reads and that are not public."""
    found, modules = [], {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("nerf_metal.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nerf_metal":
            owner = importlib.import_module(node.module)
            outside = owner is not nerf_metal and node.module.removeprefix("nerf_metal.") not in MODULES
            found += [f"{node.module}.{a.name}" for a in node.names if outside or a.name not in owner.__all__]
            modules |= {a.asname or a.name: getattr(owner, a.name) for a in node.names if a.name in MODULES}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            owner = modules[node.value.id]
            if node.attr not in getattr(owner, "__all__", ()):
                found.append(f"{owner.__name__}.{node.attr}")
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from nerf_metal.reference import mlp", ["nerf_metal.reference.mlp"]),
        ("from nerf_metal import nn, kernels", ["nerf_metal.kernels"]),
        ("from nerf_metal.nn.rendering import render", ["nerf_metal.nn.rendering.render"]),
        ("from nerf_metal.nn import render, outermost_box", ["nerf_metal.nn.outermost_box"]),
        ("import nerf_metal.reference", ["nerf_metal.reference"]),
        ("from nerf_metal import nn as parts\nparts.render, parts.rendering", ["nerf_metal.nn.rendering"]),
        ("from nerf_metal.nn import render\nimport torch\ntorch.nn.Linear", []),
    ],
)
def test_the_search_finds_private_names(source: str, found: list[str]) -> None:
    assert private_names(source) == found


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_use_public_names_alone(path: Path) -> None:
    assert private_names(path.read_text(encoding="utf-8")) == []
