"""A page that is served for a test."""

import pytest


@pytest.fixture
def needs_viser():
    """The extra that most of it needs."""
    pytest.importorskip("viser", reason="viser is not installed: pip install 'nerf-metal[view]'")


@pytest.fixture
def viewer(needs_viser, cube_scene, tmp_path):
    """The cube's page on a free port."""
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
