"""What is around an object: contraction, the grid's several boxes, and a field that learns both."""

import dataclasses

import torch

from nerf_metal.config import preset_config
from nerf_metal.data.photos import PhotoSource, open_photos
from nerf_metal.data.scene import Scene, Split
from nerf_metal.hash_field import HashField
from nerf_metal.occupancy_grid import OccupancyGrid

BOX = torch.tensor([[-1.0, -2.0, -1.0], [1.0, 2.0, 3.0]])  # its middle is (0, 0, 1)


def field(cascades: int, box: torch.Tensor = BOX) -> HashField:
    sizes = {
        "levels": 2,
        "features": 2,
        "log2_table_size": 8,
        "base_resolution": 4,
        "finest_resolution": 8,
        "width": 16,
    }
    return HashField(box, cascades=cascades, **sizes)


def test_contraction_by_hand():
    """Three cascades reach 4 times as far as the box, which is then 1 / 1.75 of the whole."""
    points = torch.tensor(
        [[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [2.0, 0.0, 1.0], [-4.0, 0.0, 1.0], [4.0, 8.0, 9.0], [2.0, 1.0, 1.0]]
    )
    u = 0.5 / 1.75
    expected = 0.5 + u * torch.tensor(
        [[0.0, 0, 0], [1.0, 0, 0], [1.5, 0, 0], [-1.75, 0, 0], [1.75, 1.75, 1.75], [1.5, 0.375, 0]]
    )
    torch.testing.assert_close(field(3).normalized(points), expected)


def test_one_cascade_contracts_nothing():
    points = BOX[0] + torch.rand(50, 3) * (BOX[1] - BOX[0])
    torch.testing.assert_close(field(1).normalized(points), (points - BOX[0]) / (BOX[1] - BOX[0]))


def test_contraction_is_continuous_and_stays_inside():
    points = 20.0 * torch.randn(2000, 3)
    unit = field(8).normalized(points)
    outer = OccupancyGrid(BOX, 8, cascades=8).outer_box
    inside = ((points >= outer[0]) & (points <= outer[1])).all(-1)
    assert inside.any() and ((unit[inside] >= 0) & (unit[inside] <= 1)).all()
    nearby = field(8).normalized(points + 1e-3)
    # the steepest part is the box itself: 1e-3 of its shortest side, 2, in a half of the unit cube
    assert (nearby - unit).abs().max() < 1e-3


def test_gradients_pass_the_contraction():
    """Poses are refined through it."""
    points = (3.0 * torch.randn(20, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(field(4).double().normalized, (points,))


def test_it_learns_what_is_far(cube_scene, tmp_path):
    """A cube before a wall far outside of its box, opaque photographs: the wall is seen where it is."""
    from PIL import Image

    from nerf_metal.methods import build_method

    split = cube_scene.splits["train"]
    images = split.images.clone()
    rays = [(pose[:3, :3] @ torch.tensor([0.0, 0.0, -1.0])) for pose in split.c2w]
    for image, ahead in zip(images, rays, strict=True):
        wall = torch.tensor([200, 60, 30] if ahead[0] > 0 else [20, 90, 200], dtype=torch.uint8)
        image[image[..., 3] == 0] = torch.cat((wall, torch.tensor([255], dtype=torch.uint8)))
    files = [tmp_path / f"{i}.png" for i in range(len(split))]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image[..., :3].numpy()).save(file)
    photos = open_photos([PhotoSource(file, (16, 16), None) for file in files], downscale=1, max_bytes=10**6)
    seen = Split("train", photos, split.c2w, split.intrinsics, split.names, has_alpha=False)
    box = torch.tensor([[-1.5] * 3, [1.5] * 3])
    scene = Scene("cube", "test", {"train": seen}, box, 0.5, 40.0, cascades=4)
    sizes = {"log2_table_size": 12, "finest_resolution": 64, "grid_resolution": 32, "hidden_width": 16, "levels": 4}
    config = dataclasses.replace(
        preset_config("fast"), **sizes, cascades=4, batch_samples=4096, march_steps=100, lr=1e-2, device="cpu"
    )
    method = build_method(config, scene.aabb, scene.near, scene.far)
    method.measure(seen)
    method.prepare(seen, 0)
    first = method.train_step(0, config.lr)
    for step in range(1, 250):
        last = method.train_step(step, config.lr)
    assert last.mse < 0.02 < first.mse  # 17 dB; one colour for all scores 11
    assert last.signs.opaque_rays > 0.95  # nothing of the random background shines through
    assert method.box.tolist() == [[-12.0] * 3, [12.0] * 3]
