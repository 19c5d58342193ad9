"""The fused optimizer against torch's, its sparse groups, and its state."""

import copy

import pytest
import torch

from nerf_metal.nn.optimizers import FusedAdam
from nerf_metal.selftest.tolerances import EPS, close
from nerf_metal.train import checkpoint as checkpoints
from tests.refusals import refusal
from tests.stepping import fresh_model

BOX = torch.tensor([[-1.0, -2.0, -3.0], [1.0, 2.0, 3.0]])


def network() -> torch.nn.Module:
    """Two layers with weights of several shapes."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(7, 33), torch.nn.Tanh(), torch.nn.Linear(33, 5))


def descend(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Some steps of a regression, drawn by their number; gradients are zeroed only where the optimizer does not."""
    for step in steps:
        x = torch.randn(16, 7, generator=torch.Generator().manual_seed(step))
        (model(x) - x[:, :5].sin()).square().mean().backward()
        optimizer.step()
        if not isinstance(optimizer, FusedAdam):
            optimizer.zero_grad()


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_dense_groups_are_torchs_adam(backend):
    """The same weights within a few roundings of each step, from groups with numbers of their own."""
    models = [network(), network()]
    kinds = [lambda groups: FusedAdam(groups, backend=backend), lambda groups: torch.optim.Adam(groups, foreach=False)]
    for model, kind in zip(models, kinds, strict=True):
        groups = [
            {"params": model[0].parameters(), "lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-15},
            {"params": model[2].parameters(), "lr": 0.002, "betas": (0.8, 0.95), "eps": 1e-8},
        ]
        descend(model, kind(groups), range(20))
    for name, weight in models[0].state_dict().items():
        # each of 20 steps of lr: a few roundings of the step, those of the weight, and their effect on later gradients
        close(weight, models[1].state_dict()[name], name, 20 * (32 * EPS * 0.01 + 2 * EPS * weight.abs()))
    assert not torch.equal(models[0][0].weight, network()[0].weight)


def test_step_clears_gradients_and_keeps_their_tensors():
    """What backward adds to afterwards is the same memory, of zeros."""
    model = network()
    optimizer = FusedAdam(model.parameters())
    descend(model, optimizer, range(1))
    grads = {name: param.grad for name, param in model.named_parameters()}
    assert all(grad is not None and not grad.any() for grad in grads.values())
    descend(model, optimizer, range(1, 3))
    assert all(param.grad is grads[name] for name, param in model.named_parameters())


def test_sparse_groups_keep_untouched_rows_and_their_moments():
    """Rows of a table that a batch did not read are what they were to the bit; those of a dense group drift on."""
    tables = {sparse: torch.nn.Parameter(torch.full((500, 2), 0.5)) for sparse in (True, False)}
    groups = [{"params": [table], "sparse": sparse} for sparse, table in tables.items()]
    optimizer = FusedAdam(groups, lr=0.01)
    read = [torch.arange(0, 500, 3), torch.arange(0, 250, 2), torch.tensor([499])]
    for rows in read:
        before = {sparse: (table.clone(), copy.deepcopy(optimizer.state[table])) for sparse, table in tables.items()}
        sum((table[rows] ** 2).sum() for table in tables.values()).backward()
        optimizer.step()
        others = torch.ones(500, dtype=torch.bool)
        others[rows] = False
        old, state = before[True]
        assert torch.equal(tables[True][others], old[others]) and (tables[True][rows] != old[rows]).all()
        for key in ("exp_avg", "exp_avg_sq"):
            now = optimizer.state[tables[True]][key]
            assert not now[others].any() if not state else torch.equal(now[others], state[key][others])
    assert (tables[False][0] != tables[True][0]).all()  # read once: its first moment carried it on


def test_a_closure_and_parameters_without_gradients():
    """The closure's loss comes back; a parameter that took no part has no state."""
    used, unused = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    optimizer = FusedAdam([used, unused], lr=0.25)

    def closure() -> torch.Tensor:
        loss = used.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    close(used, torch.full((3,), 0.75), "used", 4 * EPS)
    assert torch.equal(unused, torch.ones(3)) and unused not in optimizer.state


def test_gradients_that_are_not_contiguous_are_made_so():
    """Autograd may leave a gradient with other strides than its parameter's."""
    param = torch.nn.Parameter(torch.ones(4, 6))
    param.grad = torch.ones(6, 4).T
    FusedAdam([param], lr=0.25).step()
    close(param, torch.full((4, 6), 0.75), "param", 4 * EPS)
    assert param.grad.is_contiguous() and not param.grad.any()


def test_a_loaded_state_goes_on_identically():
    """Ten steps, the state through state_dict, ten more: the bits of twenty in a row."""
    whole, half = network(), network()
    optimizer = FusedAdam(half.parameters(), lr=0.01, sparse=True)
    descend(whole, FusedAdam(whole.parameters(), lr=0.01, sparse=True), range(20))
    descend(half, optimizer, range(10))
    resumed = network()
    resumed.load_state_dict(half.state_dict())
    other = FusedAdam(resumed.parameters())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    descend(resumed, other, range(10, 20))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_checkpoint_goes_on_identically(tmp_path, tiny_config):
    """The same through the files of a run."""

    def train(model, optimizer, steps):
        for step in steps:
            random = torch.Generator().manual_seed(step)
            sum((p * torch.randn(p.shape, generator=random)).square().sum() for p in model.parameters()).backward()
            optimizer.step()

    whole, half, resumed = (fresh_model(tiny_config, BOX) for _ in range(3))
    for model in (half, resumed):
        model.load_state_dict(whole.state_dict())
    train(whole, FusedAdam(whole.parameters(), lr=0.01), range(6))
    optimizer = FusedAdam(half.parameters(), lr=0.01)
    train(half, optimizer, range(3))
    checkpoints.save_checkpoint(tmp_path, half, optimizer, tiny_config, step=3, train_seconds=1.0, near=2.0, far=6.0)
    found = checkpoints.find_checkpoint(tmp_path)
    other = FusedAdam(resumed.parameters(), lr=0.01)
    checkpoints.load_weights(found, resumed)
    checkpoints.load_optimizer(found, resumed, other)
    train(resumed, other, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert {int(state["step"]) for state in other.state.values()} == {6}


def test_torchs_state_is_ours():
    """A run that torch's optimizer began can be continued, fused kernels or not."""
    for fused in (False, True):
        theirs, ours = network(), network()
        began = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(0.9, 0.99), eps=1e-15, fused=fused)
        descend(theirs, began, range(3))
        ours.load_state_dict(theirs.state_dict())
        optimizer = FusedAdam(ours.parameters(), lr=0.01)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": copy.deepcopy(began.state_dict()["state"]), "param_groups": groups})
        descend(theirs, began, range(3, 5))
        descend(ours, optimizer, range(3, 5))
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            close(a, b, "weight", 64 * EPS * 0.01 + 4 * EPS * a.detach().abs())


def test_runs_and_thread_counts_give_the_same_bits():
    """A table large enough for all threads, the same gradients, other numbers of threads."""
    random = torch.Generator().manual_seed(4)
    start = torch.randn(300_001, generator=random)
    grads = [torch.randn(300_001, generator=random).relu() for _ in range(3)]

    def run(threads: int) -> torch.Tensor:
        table = torch.nn.Parameter(start.clone())
        optimizer = FusedAdam([table], sparse=True)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            for grad in grads:
                table.grad = grad.clone()
                optimizer.step()
        finally:
            torch.set_num_threads(before)
        return torch.cat((table.detach(), *(optimizer.state[table][key] for key in ("exp_avg", "exp_avg_sq"))))

    first = run(1)
    assert all(torch.equal(run(threads), first) for threads in (1, 2, 5))


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"lr": -1.0}, "lr", "-1.0"),
        ({"betas": (0.9, 1.0)}, "beta2", "1.0"),
        ({"eps": 0.0}, "eps", "0.0"),
        ({"params": [torch.zeros(2, 3).T]}, "params", "(1, 3)"),
    ],
)
def test_bad_arguments(options, name, value):
    """One line that names the argument and the value, before any step."""
    with pytest.raises(ValueError, match=refusal("FusedAdam", name, value)):
        FusedAdam(**({"params": [torch.zeros(2)]} | options))


def test_a_gradient_that_is_a_sparse_tensor_is_refused():
    """Nothing is counted as a step."""
    table = torch.nn.Parameter(torch.zeros(4, 2))
    table.grad = torch.zeros(4, 2).to_sparse()
    optimizer = FusedAdam([table])
    with pytest.raises(ValueError, match=r"must be a dense tensor, got torch\.sparse_coo"):
        optimizer.step()
    assert optimizer.state[table]["step"] == 0


def test_a_copy_has_the_backend():
    """Copies and pickles are made of what the optimizer says it consists of."""
    assert copy.deepcopy(FusedAdam([torch.zeros(2)], backend="torch")).backend == "torch"
