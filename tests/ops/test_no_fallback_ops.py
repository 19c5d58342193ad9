"""The package uses none of the functions that fall back to the CPU or go wrong on some MPS versions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import nerf_metal

BANNED = {"sort", "argsort", "searchsorted", "cumprod", "msort", "bucketize"}
PACKAGE = Path(nerf_metal.__file__).parent
SHADERS = PACKAGE.parent / "metal"
# list.sort and numpy's functions run on no GPU: only what may be a tensor's is banned.
NOT_TORCH = {"np", "numpy"}


def banned_calls(source: str) -> list[str]:
    """Calls and mentions like ``torch.sort``, ``x.argsort()``, ``from torch import cumprod``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr.rstrip("_") in BANNED:
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner not in NOT_TORCH:
                found.append(f"line {node.lineno}: {owner}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            found += [f"line {node.lineno}: {a.name}" for a in node.names if a.name in BANNED]
    return found


@pytest.mark.parametrize(
    "source", ["torch.sort(x)", "x.argsort()", "f(x).cumprod(-1)", "from torch import searchsorted", "x.cumprod_(0)"]
)
def test_the_scan_sees_a_banned_call(source: str) -> None:
    assert banned_calls(source)


def test_the_scan_lets_others_pass() -> None:
    assert not banned_calls("sorted(x); x.cumsum(0); np.argsort(y); from torch import topk")


def test_package_and_shaders_use_no_function_that_falls_back() -> None:
    # The self-test's expectations are made on the CPU, and testing such functions is its business.
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE / "selftest"]
    assert len(files) > 10
    found = {str(path): calls for path in files if (calls := banned_calls(path.read_text(encoding="utf-8")))}
    assert not found
    for path in SHADERS.iterdir():
        code = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        assert not re.search(rf"\b({'|'.join(BANNED)})\s*\(", code), path
