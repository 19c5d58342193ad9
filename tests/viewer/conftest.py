"""A page that is served for a test, and somebody who looks at it without a browser."""

import pytest

viser = pytest.importorskip("viser", reason="viser is not installed: pip install 'nerf-metal[view]'")

from nerf_metal.viewer.viewer import Viewer  # noqa: E402


@pytest.fixture
def viewer(cube_scene, tmp_path):
    """The cube's page on a free port."""
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
