"""Metrics: values by hand, means of views, the blank page, and the batch's loss."""

import math

import pytest
import torch

from nerf_metal.data.scene import spread
from nerf_metal.models import build_method
from nerf_metal.models.coarse_fine.rendering import RenderedRays
from nerf_metal.models.losses import photometric_loss
from nerf_metal.train import metrics
from nerf_metal.train.evaluation import evaluate

CPU = torch.device("cpu")


def test_psnr_by_hand():
    """An error of 0.1 everywhere is 20 dB; a perfect picture is 100 dB, a number."""
    truth = torch.full((4, 4, 3), 0.5)
    assert metrics.psnr(metrics.mse(truth + 0.1, truth)) == pytest.approx(20.0, abs=1e-4)
    assert metrics.psnr(metrics.mse(truth, truth)) == 100.0


def test_blank_is_the_best_constant():
    """No constant picture beats what blank_psnr says, and the mean colour reaches it."""
    truth = torch.rand(9, 8, 3, generator=torch.Generator().manual_seed(0))
    best = metrics.blank_psnr(truth)
    mean = truth.mean((0, 1))
    assert metrics.psnr(metrics.mse(mean.expand_as(truth), truth)) == pytest.approx(best)
    for shift in (0.05, -0.05):
        assert metrics.psnr(metrics.mse((mean + shift).expand_as(truth), truth)) < best


def test_ssim_tells_structure_from_brightness():
    """1 for equal pictures; a shuffled picture of the same colours is far from it; tiny pictures work."""
    truth = torch.linspace(0, 1, 16 * 16 * 3).view(16, 16, 3)
    assert metrics.ssim(truth, truth) == pytest.approx(1.0)
    shuffled = truth.flatten()[torch.randperm(truth.numel(), generator=torch.Generator().manual_seed(0))]
    assert metrics.ssim(shuffled.view_as(truth), truth) < 0.5
    assert metrics.ssim(truth[:4, :4], truth[:4, :4]) == pytest.approx(1.0)


@pytest.mark.parametrize(("count", "wanted", "expected"), [(20, 4, [2, 7, 12, 17]), (3, 9, [0, 1, 2]), (5, 1, [2])])
def test_views_are_spread(count, wanted, expected):
    """Evenly spaced, distinct, all where fewer exist."""
    assert spread(count, wanted) == expected


def renderer(config, aabb):
    """The pictures of fresh weights."""
    model = build_method(config, aabb, 2.0, 6.0)
    model.limit_memory(checkpoint.config.max_memory, 0, training=False)
    return model.render


def test_evaluation_is_a_mean_of_views(cube_scene, tiny_config):
    """PSNR is the mean of the views' PSNRs, not the PSNR of the mean error; both agree with the views'
    values."""
    render = renderer(tiny_config, cube_scene.aabb)
    result = evaluate(render, cube_scene.splits["test"], [0, 1, 2], background="white", device=CPU)
    assert len(result.views) == 3
    for view in result.views:
        assert view.psnr == pytest.approx(-10 * math.log10(view.mse))
        assert view.mse == pytest.approx(float((view.prediction - view.truth).square().mean()), rel=1e-5)
    assert result.psnr == pytest.approx(sum(view.psnr for view in result.views) / 3)
    assert result.mse == pytest.approx(sum(view.mse for view in result.views) / 3)


@pytest.mark.parametrize(("background", "corner"), [("white", 1.0), ("random", 1.0), ("black", 0.0)])
def test_truth_and_prediction_share_the_background(cube_scene, tiny_config, background, corner):
    """Where nothing is, both pictures show the one background; random is measured over white."""
    render = renderer(tiny_config, torch.tensor([[-0.1] * 3, [0.1] * 3]))  # a box that the corners miss
    split = cube_scene.splits["test"]
    (view,) = evaluate(render, split, [0], background=background, device=CPU).views
    assert view.truth[0, 0].tolist() == view.prediction[0, 0].tolist() == [corner] * 3


def test_loss_counts_both_networks():
    """The sum of both mean squared errors, by hand."""

    class Picture:
        def __init__(self, value: float) -> None:
            self.rgb = torch.full((5, 3), value)

    loss = photometric_loss(RenderedRays(fine=Picture(0.5), coarse=Picture(0.8)), torch.full((5, 3), 0.4))
    assert float(loss) == pytest.approx(0.01 + 0.16)
