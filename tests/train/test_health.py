"""What a step says about a run's health: numbers by hand, and against what Adam really does."""

import pytest
import torch
from torch import nn

from nerf_metal.data.batches import RayBatch
from nerf_metal.models import StepLoss
from nerf_metal.nn.optimizers import FusedAdam
from nerf_metal.train import health, statistics


def test_blank_page_over_one_background():
    """The best page has the mean colour: what is left is the variance, of 6 numbers with 3 means."""
    truth = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    white = torch.ones(2, 3)
    assert float(statistics.blank_mse(truth, white)) == pytest.approx((2 * 0.25 + 2 * 0.0625) / (6 - 3))


@pytest.mark.parametrize("rays", [2, 4, 32])
@pytest.mark.parametrize("one_background", [True, False])
def test_blank_page_of_few_rays(rays, one_background):
    """No better on the mean than that of many, though it is fitted to each batch."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for _ in range(4000):
        background = torch.ones(rays, 3) if one_background else torch.rand(rays, 3, generator=generator)
        alpha = (torch.rand(rays, 1, generator=generator) < 0.5).float()
        truth = alpha * torch.rand(rays, 3, generator=generator) + (1 - alpha) * background
        found.append(float(statistics.blank_mse(truth, background)))
    # by hand: of white and uniform 1/12 / 2 + (1/4)^2; over backgrounds, b = 1/2: 1/12 - (1/2)^2 / 12
    expected = 1 / 24 + 1 / 16 if one_background else 1 / 16
    assert sum(found) / len(found) == pytest.approx(expected, rel=0.12)  # a ratio of few: 10 % at two rays


def test_blank_page_over_many_backgrounds():
    """A page of one colour and one opacity: it explains all that is not content, and nothing else."""
    generator = torch.Generator().manual_seed(0)
    background = torch.rand(20_000, 3, generator=generator)
    fog = 0.3 * torch.tensor([0.9, 0.1, 0.5]) + 0.7 * background
    assert float(statistics.blank_mse(fog, background)) == pytest.approx(0.0, abs=1e-6)
    covered = (torch.rand(20_000, 1, generator=generator) < 0.5).float()
    truth = covered * 0.0 + (1 - covered) * background  # half of the rays black
    # by hand: truth = c * b with c in {0, 1}, b uniform: var = 1/6 - 1/16, cov = 1/24, var(b) = 1/12
    assert float(statistics.blank_mse(truth, background)) == pytest.approx(1 / 6 - 1 / 16 - 12 / 24**2, rel=0.02)


def test_signs_of_a_batch():
    opacity = torch.tensor([0.0, 0.009, 0.5, 0.991])
    truth, alpha = torch.rand(4, 3), torch.tensor([[0.0], [1.0], [1.0], [1.0]])
    nothing = torch.zeros(4, 3)
    batch = RayBatch(nothing, nothing, truth, torch.ones(4, 3), alpha, torch.zeros(4, dtype=torch.int64), 0)
    whole = StepLoss(torch.tensor(2.0), truth + 0.1, opacity, 7)
    means = statistics.batch_means([(whole, 1.0)], batch).tolist()
    blank = float((truth - truth.mean(0)).square().sum() / 9)
    assert means == pytest.approx([2.0, 0.01, blank, 0.5, 0.25, 0.75])
    cut = ((1.0, slice(0, 1), 0.25), (3.0, slice(1, 4), 0.75))
    parts = [(StepLoss(torch.tensor(x), truth[rays] + 0.1, opacity[rays], 7), share) for x, rays, share in cut]
    assert statistics.batch_means(parts, batch).tolist() == pytest.approx([2.5, 0.01, blank, 0.5, 0.25, 0.75])


def groups() -> dict[str, list[nn.Parameter]]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
        for name, shapes in (("trunk", ((5, 4), (5,))), ("head", ((3, 5),)))
    }


def test_norms():
    parts = groups()
    for parameter in parts["trunk"]:
        parameter.grad = torch.full_like(parameter, 2.0)
    assert health.gradient_norms(parts).tolist() == pytest.approx([2.0 * 25**0.5, 0.0])
    expected = [torch.cat([p.flatten() for p in part]).norm().item() for part in parts.values()]
    assert health.weight_norms(parts).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", [torch.optim.Adam, FusedAdam])
def test_update_norms_are_what_the_step_did(kind):
    parts = groups()
    optimizer = kind([p for part in parts.values() for p in part], lr=0.01, betas=(0.9, 0.99), eps=1e-15)
    assert health.update_norms(parts, optimizer).tolist() == [0.0, 0.0]  # no step yet
    for step in range(3):
        before = {name: [p.detach().clone() for p in part] for name, part in parts.items()}
        for part in parts.values():
            for parameter in part:
                parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        optimizer.step()
    for name, found in zip(parts, health.update_norms(parts, optimizer).tolist(), strict=True):
        moved = [(p.detach() - old).flatten() for p, old in zip(parts[name], before[name], strict=True)]
        assert found == pytest.approx(torch.cat(moved).norm().item(), rel=1e-4)  # the difference is rounded at 1


@pytest.mark.parametrize("kind", [torch.optim.Adam, FusedAdam])
def test_second_moments_that_were_lost(kind):
    """None are while Adam works, whatever the gradients; all are once they were zeroed; those that were replaced by
    right are not."""
    parts = groups()
    parameters = [p for part in parts.values() for p in part]
    optimizer = kind(parameters, lr=0.01, betas=(0.9, 0.95))
    moments = health.SecondMoments(optimizer)
    assert moments.lost(1) == 0.0  # no state yet
    generator = torch.Generator().manual_seed(2)

    def steps(count: int, size: float) -> None:
        for _ in range(count):
            for parameter in parameters:
                parameter.grad = size * torch.randn(parameter.shape, generator=generator)
            optimizer.step()

    for size in (1.0, 1e-3, 0.0, 1e3, 1e-3):
        steps(7, size)
        assert moments.lost(7) == 0.0
    for state in optimizer.state.values():
        state["exp_avg_sq"].zero_()
    steps(7, 1e-3)
    assert moments.lost(7) == 1.0
    steps(7, 1e-3)
    assert moments.lost(7) == 0.0
    for state in optimizer.state.values():
        state["exp_avg_sq"].zero_()
    moments.forget()
    assert moments.lost(7) == 0.0


def test_what_is_not_finite_is_named():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    assert health.not_finite(module) is None
    module[1].bias.grad = torch.tensor([float("nan")])
    assert health.not_finite(module) == "the gradient of 1.bias"
    with torch.no_grad():
        module[0].weight[1, 1] = float("inf")
    assert health.not_finite(module) == "0.weight"
