"""Photographs as bytes: lazily, turned, reduced, masked, in memory or on disk; and what is said of bad ones."""

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nerf_metal.data import photos as module
from nerf_metal.data.cameras import Intrinsics
from nerf_metal.data.photos import Photos, PhotoSource, open_photos, photo_size
from nerf_metal.util.errors import InputError
from tests.data.messages import check_message

PLENTY = 1 << 30


def save(path: Path, array: np.ndarray, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(path, exif=exif.tobytes())
    return path


@pytest.fixture
def shots(tmp_path, noise) -> list[Path]:
    """Four opaque photographs, the third of another size."""
    sizes = [(9, 12), (9, 12), (13, 7), (9, 12)]
    return [save(tmp_path / f"{i}.png", noise(*size, 3, i)) for i, size in enumerate(sizes)]


def opened(paths, *, downscale: int = 1, max_bytes: int = PLENTY) -> Photos:
    return open_photos([PhotoSource(path) for path in paths], downscale=downscale, max_bytes=max_bytes)


def all_pixels(photos: Photos) -> list[tuple[torch.Tensor, ...]]:
    """Indices of every pixel, photograph by photograph, shaped as the photograph."""
    grids = [torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij") for h, w in photos.sizes.tolist()]
    return [(torch.full_like(y, i), y, x) for i, (y, x) in enumerate(grids)]


@pytest.mark.parametrize("max_bytes", [PLENTY, 1])
def test_pixels_are_the_files(shots, max_bytes, monkeypatch):
    monkeypatch.setattr(module, "_BAND", 4)  # rows written at once: no photograph's are a multiple
    photos = opened(shots, max_bytes=max_bytes)
    assert photos.on_disk == (max_bytes == 1) and not photos.has_alpha and len(photos) == 4
    assert photos.sizes.tolist() == [[9, 12], [9, 12], [13, 7], [9, 12]]
    for path, at in zip(shots, all_pixels(photos), strict=True):
        expected = np.asarray(Image.open(path).convert("RGBA"))
        assert np.array_equal(photos.pixels(*at), expected)
        assert np.array_equal(photos[int(at[0][0, 0])], expected)
    assert photos.pixels(*(torch.zeros(0, dtype=torch.int64),) * 3).shape == (0, 4)
    assert photos.masked(*all_pixels(photos)[0]) is None


def test_memory_is_counted(shots):
    pixels = 3 * 9 * 12 + 13 * 7
    assert opened(shots).nbytes == 3 * pixels
    assert opened(shots, downscale=2).nbytes == 3 * (3 * 4 * 6 + 6 * 3)
    assert opened(shots, max_bytes=3 * pixels).on_disk is False
    assert opened(shots, max_bytes=3 * pixels - 1).nbytes == 0


def test_nothing_is_decoded_before_it_is_asked_for_and_nothing_twice(shots, monkeypatch):
    decoded = []
    read = module.read_image
    monkeypatch.setattr(module, "read_image", lambda path: decoded.append(path) or read(path))
    photos = opened(shots)
    assert decoded == []
    assert torch.equal(photos[-1], photos[3]) and decoded == [shots[3]]
    photos.pixels(*torch.zeros(3, 2, dtype=torch.int64))
    assert sorted(decoded) == shots
    photos.pixels(*torch.zeros(3, 2, dtype=torch.int64))
    assert photos[1].shape == (9, 12, 4) and len(decoded) == 4


@pytest.mark.parametrize("factor", [2, 4, 5])
@pytest.mark.parametrize("alpha", [False, True])
def test_reduction_is_the_mean_of_boxes(tmp_path, noise, factor, alpha):
    image = noise(23, 17, 4, 1)[..., : 4 if alpha else 3]
    photos = opened([save(tmp_path / "a.png", image)], downscale=factor)
    camera = Intrinsics(1.0, 1.0, 0.0, 0.0, 17, 23).reduced(factor)
    assert photos.sizes.tolist() == [[camera.height, camera.width]]
    cut = image[: camera.height * factor, : camera.width * factor].astype(float)
    boxes = cut.reshape(camera.height, factor, camera.width, factor, -1)
    if alpha:
        opacity = boxes[..., 3:].mean((1, 3))
        color = (boxes[..., :3] * boxes[..., 3:]).mean((1, 3)) / opacity
        exact = np.concatenate((color, opacity), -1)
    else:
        exact = np.concatenate((boxes.mean((1, 3)), np.full((camera.height, camera.width, 1), 255)), -1)
    assert (
        np.abs(photos[0].numpy() - exact).max() <= 0.5 + 0.5 / factor**2 + 1e-3
    )  # Pillow adds half of an odd sum, rounded down


def test_a_jpeg_is_reduced_as_it_decodes(tmp_path, noise):
    """Not by its decoder's quicker draft mode."""
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(64, 64, 3, 0)).save(path, quality=95)
    full, reduced = opened([path])[0], opened([path], downscale=4)[0]
    exact = full.double().view(16, 4, 16, 4, 4).mean((1, 3))
    assert float((reduced - exact).abs().max()) <= 0.51


def test_one_with_alpha_gives_all_four_bytes(tmp_path, noise):
    paths = [save(tmp_path / "a.png", noise(5, 6, 3, 0)), save(tmp_path / "b.png", noise(5, 6, 4, 1))]
    photos = opened(paths)
    assert photos.has_alpha and photos.nbytes == 4 * 60
    assert (photos[0][..., 3] == 255).all()
    assert np.array_equal(photos[1], np.asarray(Image.open(paths[1])))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_exif_orientation_is_followed(tmp_path, noise, name, orientation):
    path = save(tmp_path / name, np.kron(noise(2, 3, 3, 0), np.ones((8, 8, 1), np.uint8)), orientation)
    stored = torch.from_numpy(np.array(Image.open(path).convert("RGB")))
    # What EXIF says: where the stored first row and first column are seen.
    seen = {
        1: stored,
        2: stored.flip(1),
        3: stored.flip(0, 1),
        4: stored.flip(0),
        5: stored.transpose(0, 1),
        6: stored.transpose(0, 1).flip(1),
        7: stored.transpose(0, 1).flip(0, 1),
        8: stored.transpose(0, 1).flip(0),
    }[orientation]
    photos = opened([path])
    assert torch.equal(photos[0][..., :3], seen)
    assert photo_size(path) == (seen.shape[1], seen.shape[0])
    assert bool(photos.notes) == (orientation > 1)


def test_cameras_for_the_stored_pixels_overrule_exif(tmp_path, noise):
    path = save(tmp_path / "a.png", noise(8, 12, 3, 0), orientation=6)
    assert photo_size(path) == photo_size(path, (8, 12)) == (8, 12)
    assert photo_size(path, (12, 8)) == (12, 8)
    photos = open_photos([PhotoSource(path, (12, 8))], downscale=1, max_bytes=PLENTY)
    assert np.array_equal(photos[0][..., :3], noise(8, 12, 3, 0))
    assert len(photos.notes) == 1 and "1 of 1" in photos.notes[0] and "not followed" in photos.notes[0]


@pytest.mark.parametrize(("orientation", "size"), [(3, (8, 12)), (6, (8, 8))])
def test_a_declared_size_that_fits_either_way_leaves_exif_its_say(tmp_path, noise, orientation, size):
    path = save(tmp_path / "a.png", noise(*size[::-1], 3, 0), orientation)
    photos = open_photos([PhotoSource(path, size)], downscale=1, max_bytes=PLENTY)
    assert torch.equal(photos[0], opened([path])[0])
    assert len(photos.notes) == 1 and "1 of 1" in photos.notes[0] and "turned" in photos.notes[0]


@pytest.mark.parametrize("max_bytes", [PLENTY, 1])
@pytest.mark.parametrize("small", [False, True])
def test_black_of_a_mask_is_left_out(tmp_path, noise, small, max_bytes):
    images = [save(tmp_path / f"{i}.png", noise(6, 9, 3, i)) for i in range(2)]
    mask = np.full((3, 4) if small else (6, 9), 255, np.uint8)
    mask[0, 1] = 0
    file = save(tmp_path / "mask.png", mask)
    sources = [PhotoSource(images[0], mask=file), PhotoSource(images[1])]
    photos = open_photos(sources, downscale=2, max_bytes=max_bytes)
    expected = torch.zeros(3, 4, dtype=torch.bool)
    expected[0, 1 if small else 0] = True
    at = all_pixels(photos)
    assert torch.equal(photos.masked(*at[0]), expected) and not photos.masked(*at[1]).any()
    assert torch.equal(photos.pixels(*at[1]), opened(images, downscale=2)[1])


def test_masks_that_leave_nothing_are_refused(tmp_path, noise):
    """Black, or transparent."""
    image = save(tmp_path / "0.png", noise(6, 9, 3, 0))
    for values in (np.zeros((6, 9), np.uint8), np.full((6, 9, 4), (255, 255, 255, 0), np.uint8)):
        mask = save(tmp_path / "mask.png", values)
        photos = open_photos([PhotoSource(image, mask=mask)], downscale=1, max_bytes=PLENTY)
        at = all_pixels(photos)[0]
        _refused("mask.png", "none", lambda: photos.pixels(*at))  # noqa: B023


def _refused(names: str, got: str, call) -> None:
    with pytest.raises(InputError) as raised:
        call()
    check_message(raised.value, names, got)


@pytest.mark.parametrize(
    ("content", "got"),
    [(None, ""), (b"", "0 bytes"), (b"<html>not found</html>", "22 bytes")],
)
def test_a_bad_file_is_refused_at_once(shots, content, got):
    shots[1].unlink()
    if content is not None:
        shots[1].write_bytes(content)
    _refused("1.png", got, lambda: opened(shots))


def test_apple_s_format_is_named(tmp_path):
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    _refused("a.HEIC", "JPEG", lambda: opened([tmp_path / "a.HEIC"]))


def test_a_wrong_size_is_refused(shots, tmp_path, noise):
    def with_size(size=None, mask=None):
        return open_photos([PhotoSource(shots[0], size, mask)], downscale=2, max_bytes=PLENTY)

    _refused("0.png|9x12", "12x9", lambda: with_size((9, 12)))
    mask = save(tmp_path / "mask.png", noise(3, 3, 1, 0)[..., 0])
    _refused("mask.png|12x9|6x4", "3x3", lambda: with_size(mask=mask))
    _refused("--downscale|7|2.png|7x13", "8", lambda: opened(shots, downscale=8))


def test_a_photograph_cut_short_is_named_when_it_is_decoded(shots):
    shots[2].write_bytes(shots[2].read_bytes()[:200])
    photos = opened(shots)
    assert photos[0].shape == (9, 12, 4)
    for _ in range(2):  # the second call finds the same
        _refused("2.png", "200 bytes", lambda: photos.pixels(*torch.zeros(3, 1).long()))


def test_a_photograph_that_changes_is_refused(shots, noise):
    photos = opened(shots)
    save(shots[0], noise(5, 5, 3, 0))
    _refused("0.png", "5x5", lambda: photos[0])


def test_a_full_disk_is_one_line(shots, monkeypatch):
    photos = opened(shots, max_bytes=1)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000))
    _refused("1.24e-06 GB", "1e-06 GB; raise --downscale or --max-memory", lambda: photos[0])

    def fails(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2000))
    monkeypatch.setattr(os, "pwrite", fails)
    _refused("1.24e-06 GB", "2e-06 GB (No space left on device)", lambda: photos[0])


def test_nothing_is_left_by_a_killed_process(shots, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from nerf_metal.data.photos import PhotoSource, open_photos\n"
        "photos = open_photos([PhotoSource(Path(sys.argv[1]))], downscale=1, max_bytes=1)\n"
        "print(photos[0].shape, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    env = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code, str(shots[0])], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "torch.Size([9, 12, 4])" and done.returncode < 0, done.stderr
    assert list(scratch.iterdir()) == []
