"""The page in a headless Chromium: it shows the field as seen from the page's camera."""

import io
import json
import shutil
import threading
import time

import imageio.v3 as iio
import pytest
import torch

from nerf_metal.export.camera_path_json import camera_path_from_json
from nerf_metal.viewer import camera_path
from nerf_metal.viewer.axes import pose_of_page
from nerf_metal.viewer.controls import look_from
from nerf_metal.viewer.scene_graph import named_cameras
from nerf_metal.viewer.status import TrainingStatus
from tests.viewer.fields import CubeMethod, seen

pytestmark = pytest.mark.slow  # a browser without a GPU is slow
WIDTH, HEIGHT = 1000, 640
PANEL, NOTE = 340, 160  # pixels covered by the panel on the right and by a note about software rendering at the top
CLOSE = 0.02
"""The greatest mean difference between a screenshot and the expected picture. JPEG, the box's lines and edges that are
half a pixel off cause 0.003 to 0.007; a picture from another viewpoint has 0.1."""
PATIENCE = 60.0  # seconds: a busy machine draws one frame per second


@pytest.fixture
def page(viewer):
    """The viewer's page in a browser, with the console's errors and the requested addresses. A thread renders the
    pictures."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser_path = next(filter(None, map(shutil.which, names)), None)
    if browser_path is None:
        pytest.skip(f"no browser is installed: none of {', '.join(names)}")
    over = threading.Event()
    thread = threading.Thread(target=viewer.serve, args=(CubeMethod(), over.is_set))
    thread.start()
    with playwright.sync_playwright() as play:
        arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = play.chromium.launch(executable_path=browser_path, args=arguments)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.errors, page.asked = [], []
        page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: page.errors.append(str(e)))
        page.on("request", lambda r: page.asked.append(r.url))
        page.goto(viewer.address)
        yield page
        browser.close()
    over.set()
    thread.join()


def until(true, what: str):
    """Wait until a function returns something true, and return that."""
    end = time.monotonic() + PATIENCE
    while not (result := true()):
        assert time.monotonic() < end, f"this did not happen within {PATIENCE:.0f} s: {what}"
        time.sleep(0.1)
    return result


def shot(page) -> torch.Tensor:
    return uncovered(torch.from_numpy(iio.imread(io.BytesIO(page.screenshot()))[..., :3].copy()).float() / 255)


def uncovered(picture: torch.Tensor) -> torch.Tensor:
    return picture[NOTE:, :-PANEL]


def client(viewer):
    return until(lambda: list(viewer.server.get_clients().values()), "a page connects")[0]


def truth(viewer, page) -> torch.Tensor:
    size = page.viewport_size
    return uncovered(seen(client(viewer).camera, size["width"], size["height"]))


def shows_the_field(viewer, page) -> bool:
    return bool((shot(page) - truth(viewer, page)).abs().mean() < CLOSE)


def near(viewer, pose: torch.Tensor) -> bool:
    """Return whether the page's camera is within a tenth of the distances between the key poses."""
    return bool((torch.from_numpy(client(viewer).camera.position).float() - pose[:3, 3]).norm() < 0.2)


def drag(page, by: int) -> None:
    page.mouse.move(300, 400)
    page.mouse.down()
    for step in range(8):
        page.mouse.move(300 + by * (step + 1) / 8, 400)
    page.mouse.up()


def test_the_page(viewer, page, cube_scene, tmp_path, monkeypatch):
    # it starts at the first camera, and shows the field upright
    until(lambda: page.get_by_text("Jump to").count(), "the panel")
    page.get_by_text("Cameras", exact=True).locator("xpath=following::input[1]").click()
    until(lambda: shows_the_field(viewer, page), "the field from the first camera")
    first = truth(viewer, page)
    assert first.std() > 0.1  # the picture is not blank
    pose = pose_of_page(client(viewer).camera.wxyz, client(viewer).camera.position)
    torch.testing.assert_close(pose, cube_scene.splits["train"].c2w[0], atol=1e-3, rtol=0)

    # key poses of a path; dragging the mouse changes the picture
    viewer.path._seconds.value = 2.0
    page.get_by_text("Camera path").click()
    until(lambda: page.get_by_role("button", name="Add key pose").is_visible(), "the path's panel")
    keys = [pose]
    page.get_by_role("button", name="Add key pose").click()
    until(lambda: page.get_by_text("1 key pose").count(), "a key pose")
    for by in (150, 130):
        drag(page, by)
        until(lambda: (truth(viewer, page) - first).abs().mean() > 2 * CLOSE, "the camera moves")
        time.sleep(1.0)  # the page's camera moves smoothly to its end
        keys.append(pose_of_page(client(viewer).camera.wxyz, client(viewer).camera.position))
        page.get_by_role("button", name="Add key pose").click()
        said = f"{len(keys)} key poses"
        until(lambda said=said: page.get_by_text(said).count(), "a key pose")
    assert (shot(page) - first).abs().mean() > CLOSE

    # the path's file
    page.get_by_role("button", name="Save path").click()
    path = tmp_path / "run" / "camera_paths" / "path.json"
    until(path.exists, "the path's file")
    about = json.loads(path.read_text())
    assert len(about["keyframes"]) == 3 and len(about["camera_path"]) == 48
    read = camera_path_from_json(path.read_text(), str(path), torch.eye(4, dtype=torch.float64))
    for index, key in ((0, keys[0]), (-1, keys[-1])):
        torch.testing.assert_close(read.frames[index][0], key, atol=1e-3, rtol=0)

    # the preview moves from the first key pose to the last
    look_from(client(viewer), keys[1], client(viewer).camera.fov, torch.zeros(3))
    flown = []  # the sent poses: a busy machine's page reports only some of them
    monkeypatch.setattr(
        camera_path, "look_from", lambda page, pose, *rest: (flown.append(pose), look_from(page, pose, *rest))
    )
    page.get_by_role("button", name="Preview").click()
    until(lambda: near(viewer, keys[-1]), "the preview ends at the last key")
    for flown_to, key in ((flown[0], keys[0]), (flown[-1], keys[-1])):
        torch.testing.assert_close(flown_to, key, atol=1e-3, rtol=0)
    page.get_by_role("button", name="Remove all key poses").click()

    # a jump to a camera
    camera = named_cameras(cube_scene)[5]
    viewer.controls.jump(client(viewer), camera)
    until(lambda: near(viewer, camera.c2w) and shows_the_field(viewer, page), "the field from another camera")
    assert abs(client(viewer).camera.fov - 0.7) < 1e-3

    # another size of the window
    page.set_viewport_size({"width": 900, "height": 760})
    until(lambda: shows_the_field(viewer, page), "the field in a window of another size")

    # the training's panel follows
    status = TrainingStatus(viewer.server)
    line = {"train_seconds": 2.0, "loss": 0.01, "mse": 0.01, "rays_per_second": 1e5, "step": 20}
    for step in (20, 40):
        status.line("train", {**line, "step": step})
        until(lambda step=step: page.get_by_text(f"step: {step}").count(), "the step in the panel")
        time.sleep(0.6)  # the panel's own pace
    assert page.get_by_text("20.0 dB").count()

    # a second page, and one that is closed while it is rendered for
    other = page.context.browser.new_page(viewport={"width": 400, "height": 300})
    other.goto(viewer.address)
    until(lambda: len(viewer.server.get_clients()) == 2, "a second page")
    drag(other, 50)
    other.close()
    until(lambda: len(viewer.server.get_clients()) == 1, "the second page is gone")
    drag(page, 100)
    time.sleep(1.0)
    until(lambda: shows_the_field(viewer, page), "the field in the page that is still open")

    assert page.errors == []
    assert [url for url in page.asked if not url.startswith((viewer.address, f"blob:{viewer.address}", "data:"))] == []
