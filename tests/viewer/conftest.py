"""Fixtures that serve a page for a test."""

import pytest


@pytest.fixture
def needs_viser():
    """Skip without viser, which most of the viewer needs."""
    pytest.importorskip("viser", reason="viser is not installed: pip install 'nerf-metal[view]'")


@pytest.fixture
def viewer(needs_viser, cube_scene, tmp_path):
    """The page of the cube on a free port."""
    from nerf_metal.viewer.viewer import Viewer

    page = Viewer(
        cube_scene,
        cube_scene.aabb,
        tmp_path / "run",
        background="random",
        width=2048,
        host="127.0.0.1",
        port=0,
        command="view",
    )
    yield page
    page.close()
