"""The live picture with a simulated clock: it is quick during motion, sharp at rest, and never out of date."""

import dataclasses
import math

import pytest
import torch

from nerf_metal.data.cameras import image_rays, look_at
from nerf_metal.viewer.axes import camera_of_page
from nerf_metal.viewer.live_picture import REST_SECONDS, LivePicture, Settings, Viewpoint
from nerf_metal.viewer.picture import FAR
from tests.viewer.fields import CUBE, CubeMethod

SPEED = 100_000.0  # rays per second of the field: 12 pictures per second have 8333 pixels
CPU = torch.device("cpu")


def viewpoint(angle: float = 0.3, width: int = 400, height: int = 250) -> Viewpoint:
    eye = (3 * math.cos(angle), 3 * math.sin(angle), 1.0)
    return Viewpoint(look_at(eye, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)), 0.8, width, height)


class Bench:
    """A live picture whose clock advances by the seconds that rendering takes at ``speed``."""

    def __init__(self, speed: float = SPEED) -> None:
        self.now, self.speed = 100.0, speed
        self.sent = []
        self.live = LivePicture(lambda client, picture: self.sent.append((client, picture)), CUBE, lambda: self.now)
        self.model = CubeMethod(self.spend)

    def spend(self, rays: int) -> None:
        self.now += rays / self.speed

    def chunk(self) -> bool:
        return self.live.work(self.model.render, CPU) > 0

    def until_idle(self) -> list[tuple[int, tuple[int, int]]]:
        """Render until no page waits. Return pages and sizes of the pictures that were sent."""
        before = len(self.sent)
        while self.chunk():
            pass
        return [(client, picture.rgb.shape[:2]) for client, picture in self.sent[before:]]

    def rest(self) -> list[tuple[int, tuple[int, int]]]:
        self.now += REST_SECONDS
        return self.until_idle()


@pytest.fixture
def bench():
    return Bench()


def test_pictures_are_quick_during_motion_and_sharp_at_rest(bench):
    bench.live.look(1, viewpoint())
    ((_, (height, _)),) = bench.until_idle()
    assert height < 125
    sizes = [size for _, size in bench.rest()]
    assert sizes[-1] == (250, 400)
    pixels = [height * width for height, width in sizes]
    assert pixels == sorted(pixels) and len(pixels) >= 2  # in several steps
    assert not bench.rest()


def test_the_quick_size_follows_the_measured_speed():
    for speed in (100_000.0, 900_000.0):
        bench = Bench(speed)
        for step in range(60):  # a second drag
            bench.live.look(1, viewpoint(0.01 * step, 2000, 1500))
            bench.until_idle()
        height, width = bench.sent[-1][1].rgb.shape[:2]
        assert 0.8 < height * width / (speed / 12) < 1.2
        assert width / height == pytest.approx(4 / 3, rel=0.05)


def test_empty_rays_do_not_promise_speed(bench):
    """Every second chunk costs next to nothing. The pictures still keep the time of a frame."""
    calls = iter(range(10**9))
    bench.model.each = lambda rays: bench.spend(rays if next(calls) % 2 else rays / 50)
    times = []
    for step in range(60):
        bench.live.look(1, viewpoint(0.01 * step, 2000, 1500))
        start = bench.now
        bench.until_idle()
        times.append(bench.now - start)
    assert 0.5 / 12 < sum(times[20:]) / 40 < 1.5 / 12


def test_a_sharp_picture_out_of_date_is_dropped(bench):
    bench.live.look(1, viewpoint(0.3))
    bench.until_idle()
    bench.now += REST_SECONDS
    sent = len(bench.sent)
    assert bench.chunk() and len(bench.sent) == sent  # a sharp picture has begun
    bench.live.look(1, viewpoint(0.9))
    bench.until_idle()
    bench.rest()
    shown = bench.sent[sent:]
    truth = {angle: small_truth(viewpoint(angle), *shown[0][1].rgb.shape[:2]) for angle in (0.3, 0.9)}
    first = torch.from_numpy(shown[0][1].rgb).float() / 255
    assert (first - truth[0.9]).abs().mean() < 0.01 < (first - truth[0.3]).abs().mean()
    assert [picture.rgb.size for _, picture in shown] == sorted(picture.rgb.size for _, picture in shown)


def test_pictures_come_during_motion_without_pause(bench):
    """A new viewpoint comes before each chunk, and quick pictures are finished all the same."""
    bench.speed = 2_000.0  # far below the assumed speed: a picture takes several chunks
    for step in range(60):
        bench.live.look(1, viewpoint(0.01 * step))
        assert bench.chunk()
    assert len(bench.sent) >= 3


def test_skipped_viewpoints_are_never_rendered(bench):
    rays = []
    bench.model.each = lambda count: (rays.append(count), bench.spend(count))
    for step in range(1000):
        bench.live.look(1, viewpoint(0.001 * step))
    bench.until_idle()
    assert len(bench.sent) == 1 and sum(rays) == bench.sent[0][1].rgb.size // 3


def test_a_picture_of_several_chunks_is_that_of_its_camera(bench):
    bench.live.look(1, viewpoint())
    bench.until_idle()
    bench.rest()
    picture = bench.sent[-1][1]
    torch.testing.assert_close(
        torch.from_numpy(picture.rgb).float() / 255, small_truth(viewpoint(), 250, 400), atol=0.5 / 255 + 1e-5, rtol=0
    )
    # the nearest corner region lies between the eye's distance and the cube's: depths are along the axis
    middle = picture.depth[125, 200]
    eye = viewpoint().c2w[:3, 3]
    assert 0.3 < float(eye.norm()) - middle < 0.8
    assert picture.depth[0, 0] == FAR


def small_truth(of: Viewpoint, height: int, width: int) -> torch.Tensor:
    camera = camera_of_page(of.fov, of.width / of.height, width, height)
    return CubeMethod().render(*image_rays(of.c2w, camera), torch.ones(3)).rgb.view(height, width, 3)


def test_a_page_that_leaves_mid_picture(bench):
    bench.speed = 2_000.0
    bench.live.look(1, viewpoint())
    bench.model.each = lambda count: bench.live.leave(1)
    bench.until_idle()
    assert not bench.sent
    bench.live.look(2, viewpoint())
    bench.model.each = bench.spend
    assert {client for client, _ in bench.until_idle()} == {2}


def test_pages_take_turns_and_quick_ones_come_first(bench):
    for client in (1, 2):
        bench.live.look(client, viewpoint())
    assert sorted(client for client, _ in bench.until_idle()) == [1, 2]
    bench.now += REST_SECONDS
    assert bench.chunk()  # one page's sharp picture
    bench.live.look(3, viewpoint(1.0))
    order = [client for client, _ in bench.until_idle()]
    assert order[0] == 3 and {1, 2} <= set(order)


def test_a_window_of_another_size(bench):
    bench.live.look(1, viewpoint(width=400, height=250))
    bench.until_idle()
    bench.rest()
    bench.live.look(1, viewpoint(width=300, height=300))
    bench.until_idle()
    assert bench.rest()[-1] == (1, (300, 300))


def test_other_settings_show_at_once(bench):
    bench.live.look(1, viewpoint())
    bench.until_idle()
    bench.rest()
    bench.live.change(dataclasses.replace(Settings(), output="opacity", width=200))
    sizes = bench.until_idle()
    assert sizes[-1] == (1, (125, 200))
    rgb = torch.from_numpy(bench.sent[-1][1].rgb)
    assert set(rgb.unique().tolist()) == {0, 255}
    bench.live.change(Settings(output="depth"))
    bench.until_idle()
    rgb = torch.from_numpy(bench.sent[-1][1].rgb)
    assert len(rgb.unique()) > 10 and not rgb[0, 0].any()  # an empty pixel is black


def test_a_field_that_changed_is_shown_again_as_sharply(bench):
    bench.live.look(1, viewpoint())
    bench.until_idle()
    bench.rest()
    bench.live.outdate()
    assert bench.until_idle() == [(1, (250, 400))]
    assert not bench.until_idle()
