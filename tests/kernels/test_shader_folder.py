"""NERF_METAL_SHADER_DIR: edited shaders without a new build, as long as their parameters stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nerf_metal import ops
from nerf_metal.kernels import shaders
from tests.kernels.double import Double
from tests.kernels.launches import SOURCES

pytestmark = pytest.mark.metal_encoding

OTHER = (
    "[{}] parameters must be those the extension was built with, got others in the edited shader; "
    "reinstall once with: pip install -e ."
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of metal/ that the package reads."""
    for name, text in SOURCES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv(shaders.SHADER_DIR_VARIABLE, str(tmp_path))
    return tmp_path


def edit(folder: Path, file: str, before: str, after: str) -> None:
    text = (folder / file).read_text()
    assert before in text
    (folder / file).write_text(text.replace(before, after, 1))


def test_embedded_text_without_the_variable(monkeypatch) -> None:
    monkeypatch.delenv(shaders.SHADER_DIR_VARIABLE, raising=False)
    text = shaders.library_source("march")
    assert '#include "' not in text
    assert text.isascii()
    monkeypatch.setenv(shaders.SHADER_DIR_VARIABLE, "")
    assert shaders.library_source("march") == text


@pytest.mark.parametrize("library", sorted(n.removesuffix(".metal") for n in SOURCES if n.endswith(".metal")))
def test_unchanged_folder_gives_the_embedded_text(folder, monkeypatch, library) -> None:
    edited = shaders.library_source(library)
    monkeypatch.delenv(shaders.SHADER_DIR_VARIABLE)
    assert edited == shaders.library_source(library)


def test_edited_text_is_what_metal_compiles(folder, metal: Double) -> None:
    edit(folder, "march.metal", "MarchBounds bounds;", "MarchBounds bounds;  // an edit")
    rays, box = torch.ones(3, 3), torch.tensor([[-1.0] * 3, [1.0] * 3])
    ops.intersect_rays(rays, rays, box, backend="metal")
    (created,) = metal.calls("create_shader_library")
    assert created["length"] == len(shaders.library_source("march"))
    assert "// an edit" in shaders.library_source("march")


def test_shape_comments_and_bodies_may_change(folder) -> None:
    edit(folder, "march.metal", "// [n_rays, 3] world units", "// [n_rays, 3] metres")
    assert "metres" in shaders.library_source("march")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("device const float* rays_o", "device float* rays_o"),
        ("device const float* rays_o", "device const half* rays_o"),
        ("device const float* rays_o", "device const float* origins"),
        ("constant MarchParams& p", "constant ImportanceParams& p"),
        ("kernel void march_intersect_f32", "kernel void march_intersect_f16"),
    ],
)
def test_other_parameters_are_refused(folder, before, after) -> None:
    start = (folder / "march.metal").read_text().index("kernel void march_intersect_f32")
    text = (folder / "march.metal").read_text()
    (folder / "march.metal").write_text(text[:start] + text[start:].replace(before, after, 1))
    name = "march_intersect_f16" if "f16" in after else "march_intersect_f32"
    with pytest.raises(ValueError) as caught:
        shaders.library_source("march")
    assert str(caught.value) == OTHER.format(name)


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("device const T* values", "device T* values", "composite_forward_f32"),
        ("composite_forward, half, false", "composite_forward, float, false", "composite_forward_f16"),
        ("INSTANTIATE(composite_forward_f16,", "INSTANTIATE(composite_forward_b16,", "composite_forward_b16"),
    ],
)
def test_other_instances_are_refused(folder, before, after, name) -> None:
    edit(folder, "composite.metal", before, after)
    with pytest.raises(ValueError) as caught:
        shaders.library_source("composite")
    assert str(caught.value) == OTHER.format(name)


@pytest.mark.parametrize(("before", "after"), [("uint seed;", "float seed;"), ("uint seed;", ""), ("t_far", "t_end")])
def test_other_structs_are_refused(folder, before, after) -> None:
    edit(folder, "params.h", before, after)
    with pytest.raises(ValueError) as caught:
        shaders.library_source("march")
    assert str(caught.value) == OTHER.format("march_intersect_f32")


@pytest.mark.parametrize("what", ["missing", "empty", "headers"])
def test_folder_without_shaders(tmp_path, monkeypatch, what) -> None:
    folder = tmp_path / "shaders"
    if what != "missing":
        folder.mkdir()
    if what == "headers":
        (folder / "params.h").write_text("")
    monkeypatch.setenv(shaders.SHADER_DIR_VARIABLE, str(folder))
    with pytest.raises(ValueError) as caught:
        shaders.library_source("march")
    assert str(caught.value) == (
        f"[NERF_METAL_SHADER_DIR] must name a folder with .metal files, got {str(folder)!r}; "
        "unset it to use the embedded shaders"
    )


def test_folder_without_one_of_the_shaders(folder) -> None:
    (folder / "march.metal").unlink()
    with pytest.raises(ValueError, match=r'^\[march\.metal\] #include "march\.metal" must name one of '):
        shaders.library_source("march")


def test_folder_without_the_structs(folder) -> None:
    (folder / "params.h").unlink()
    with pytest.raises(ValueError, match=r'^\[march\.metal\] #include "params\.h" must name one of '):
        shaders.library_source("march")
