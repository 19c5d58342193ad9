"""Probes of torch ops that are known to have computed wrong results on MPS, and that nerf_metal avoids.

A wrong result here is no failure of nerf_metal, but a warning for users who write their own models.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from nerf_metal.models.coarse_fine.field import MAX_ROWS
from nerf_metal.selftest.probes import Outputs, Probe, Side, linear, normal


def _linear_3d(batches: int) -> Probe:
    def run(side: Side) -> Outputs:
        x, weight, bias = (side.place(t) for t in (normal(batches, 3, 48), normal(40, 48), normal(40)))
        return {"y": F.linear(x, weight, bias)}

    issues = (189495,) if batches > 2**16 else (192934,)
    return Probe(
        f"Linear with bias, {batches} x 3 x 48",
        run,
        terms=49,
        issues=issues,
        avoided="it multiplies matrices of two dimensions only",
    )


def _linear_of_view(side: Side) -> Outputs:
    x, weight = side.place(normal(500, 48)), side.place(normal(80, 48))
    return {"sliced": F.linear(x, weight[::2]), "transposed": F.linear(x, side.place(normal(48, 40)).t())}


def _one_output(side: Side) -> Outputs:
    x = side.leaf(normal(3840, 33))
    return {"grad_x": torch.autograd.grad(F.linear(x, side.place(normal(1, 33))).sum(), x)[0]}


def _batched(side: Side) -> Outputs:
    x, y = side.place(normal(1, 40, 32768)), side.place(normal(1, 32768, 48))
    return {"bmm": torch.bmm(x, y), "einsum": torch.einsum("bik,bkj->bij", x, y)}


def _expanded(side: Side) -> Outputs:
    return {"product": side.place(normal(1, 48)).expand(64, 48) @ side.place(normal(48, 40))}


def _transposed_adam(side: Side) -> Outputs:
    x, y, z = (side.place(normal(20, 33, seed=seed).abs() + 1.0).t() for seed in range(3))
    param = side.place(normal(20, 33)).t().requires_grad_()
    optimizer = torch.optim.Adam([param], lr=0.01)
    for step in range(3):
        param.grad = side.place(normal(20, 33, seed=step) * 0.1).t()
        optimizer.step()
    return {"addcdiv": x.clone().addcdiv_(y, z), "addcmul": x.clone().addcmul_(y, z), "param": param}


def _permuted_losses(side: Side) -> Outputs:
    x = side.place(normal(128, 10, 3)).permute(0, 2, 1)[:, :, :5]
    return {"mse": F.mse_loss(x, side.place(normal(128, 3, 5, seed=1)), reduction="none")}


def _permuted_gradients(side: Side) -> Outputs:
    found: Outputs = {}
    for activation in (torch.sigmoid, F.softplus, torch.relu):
        x = side.place(normal(1, 7, 4, 3)).permute(0, 3, 1, 2).requires_grad_()
        found[activation.__name__] = torch.autograd.grad(activation(x).sum(), x)[0]
    return found


def _sorted(side: Side) -> Outputs:
    x = side.place(normal(70, 30)).t()
    values, order = x.sort(dim=0)
    found = torch.searchsorted(values.t().contiguous(), side.place(normal(70, 5)))
    return {"values": values, "order": order, "searched": found, "argsort": x.argsort(dim=0)}


def _cumprod(side: Side) -> Outputs:
    x = side.leaf(torch.where(normal(40, 30).abs() < 0.1, 0.0, normal(40, 30)).clamp(-1.0, 1.0))
    y = x.cumprod(-1)
    return {"y": y, "grad": torch.autograd.grad(y, x, side.place(normal(40, 30, seed=1)))[0]}


def _scattered(side: Side) -> Outputs:
    x = side.place(normal(8, 20, 10)).permute(0, 2, 1)
    top = torch.topk(x, 3)
    return {"scattered": torch.zeros_like(x).scatter_(2, top.indices, top.values)}


def _far_places(side: Side) -> Outputs:
    places = torch.tensor([4049973, 17016956, 17566863])  # from 2^24 on, float32 holds even integers only
    mask = torch.zeros(2**24 + 2**20, dtype=torch.bool)
    mask[places] = True
    return {"places": side.place(mask).nonzero()}


def _selected(side: Side) -> Outputs:
    mask = side.place(torch.rand(40, 30, generator=torch.Generator().manual_seed(0)) < 0.5)
    return {"selected": side.place(normal(40, 30))[mask], "sums": mask.cumsum(0)}


def _offsets(side: Side) -> Outputs:
    filled = side.place(torch.zeros(16, dtype=torch.bool))
    filled[1:].fill_(True)
    pair = side.place(torch.tensor([True, False]))
    return {"filled": filled, "and": torch.bitwise_and(side.place(torch.tensor([True, False, True])), pair[1])}


def _cpu_scalar(side: Side) -> Outputs:
    scale = torch.arange(1.0, 9.0)
    return {"divided": side.place(normal(12)) / (scale.double() if side.exact else scale)[4]}


def _whole_numbers(side: Side) -> Outputs:
    x = side.place(torch.tensor([42309891, 2**24 + 1, -(2**24 + 3), 2**33 + 7]))
    shifted = 1 << side.place(torch.arange(10))
    return {"remainder": x % 31, "abs": x.abs(), "shifted": shifted, "cumsum": x.cumsum(0)}


AVOIDED = (
    *(
        Probe(
            f"Linear and gradients, {rows} rows",
            linear(rows),
            terms=rows,
            issues=(177116, 193487),
            avoided=f"it uses at most {MAX_ROWS} rows per call",
        )
        for rows in (32_768, 131_072)
    ),
    _linear_3d(65_537),
    _linear_3d(2),
    Probe(
        "Linear, weight a view",
        _linear_of_view,
        terms=48,
        issues=(162730, 161640),
        avoided="its weights are contiguous",
    ),
    Probe(
        "Linear, one output, gradient expanded", _one_output, issues=(189565,), avoided="its gradients are contiguous"
    ),
    Probe(
        "bmm, einsum over 32768",
        _batched,
        terms=32_768,
        issues=(195163,),
        avoided="it multiplies matrices of two dimensions only",
    ),
    Probe("product of an expanded tensor", _expanded, terms=48, issues=(180201,), avoided="its factors are contiguous"),
    Probe(
        "Adam, addcdiv_ of transposed tensors",
        _transposed_adam,
        issues=(118115,),
        avoided="its parameters are contiguous",
    ),
    Probe("mse_loss of a permuted tensor", _permuted_losses, issues=(124621,), avoided="its colours are contiguous"),
    Probe(
        "sigmoid ... gradients, permuted",
        _permuted_gradients,
        issues=(175188,),
        avoided="its activations are contiguous",
    ),
    Probe("sort, argsort, searchsorted", _sorted, issues=(175187, 112829), avoided="its kernels merge sorted lists"),
    Probe("cumprod and its gradient", _cumprod, issues=(109166, 106112), avoided="its kernels compute the products"),
    Probe("scatter_ into a permuted tensor", _scattered, issues=(115152,), avoided="its kernels write the results"),
    Probe("nonzero beyond 2^24", _far_places, exact=True, issues=(140570, 122916), avoided="its images are smaller"),
    Probe(
        "x[mask] and cumsum of bool, 2-D", _selected, issues=(125100, 96614), avoided="it uses indices instead of masks"
    ),
    Probe(
        "views of bool with an offset", _offsets, exact=True, issues=(183631, 182822), avoided="it makes no such views"
    ),
    Probe(
        "a CPU scalar that is a view", _cpu_scalar, issues=(187117, 193057), avoided="it uses Python numbers as scalars"
    ),
    Probe(
        "%, abs, << of large whole numbers",
        _whole_numbers,
        exact=True,
        issues=(154171, 190052, 147889),
        avoided="its kernels compute with integers",
    ),
)
