"""Probes of torch's own ops that nerf_metal uses for training and rendering.

A probe compares an op on a device with the same op in float64 on the CPU. The ops that nerf_metal avoids are in
``probes_avoided.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from nerf_metal.data.cameras import Intrinsics, image_rays, look_at
from nerf_metal.models.coarse_fine.field import MAX_ROWS, CoarseFineField
from nerf_metal.models.hash_grid.field import HashField
from nerf_metal.models.losses import HUBER_DELTA
from nerf_metal.nn.encodings import FrequencyEncoding
from nerf_metal.ops import pack_counts
from nerf_metal.reference import pack_bits, unpack_bits
from nerf_metal.selftest.tolerances import TORCH_ELEMENTWISE, TRAINING_STEP, all_close, require
from nerf_metal.util.rounding import DEVIATIONS, products

Outputs = dict[str, torch.Tensor]
_Module = TypeVar("_Module", bound=torch.nn.Module)


@dataclass(frozen=True)
class Side:
    """One of the two sides of a comparison.

    Attributes:
        device: the device of the tensors.
        exact: whether floats are float64.
        sizes: whether floats lose their sign: results are then sums of the magnitudes of their terms.
        backend: the backend of nerf_metal's own modules on this side.
    """

    device: str
    exact: bool = False
    sizes: bool = False
    backend: str = "torch"

    def place(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor of float32 or integers on this side."""
        if x.is_floating_point():
            x = x.abs() if self.sizes else x
            x = x.double() if self.exact else x
        return x.to(self.device)

    def leaf(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor on this side that requires a gradient."""
        return self.place(x).detach().requires_grad_()


@dataclass(frozen=True)
class Probe:
    """A computation of torch that is tested.

    Attributes:
        name: at most 44 characters, so that it fits the terminal.
        run: computes on a side and returns results by name.
        terms: the number of terms of the sums that the results are. 0 if the results are no sums.
        exact: whether results must be equal to the bit.
        limit: the tolerance of other results, relative to the largest entry.
        issues: the numbers of pytorch issues that reported a wrong result.
        avoided: what nerf_metal does instead; empty if it relies on this.
    """

    name: str
    run: Callable[[Side], Outputs]
    terms: int = 0
    exact: bool = False
    limit: float = TORCH_ELEMENTWISE
    issues: tuple[int, ...] = field(default=())
    avoided: str = ""

    def compare(self, device: str, backend: str) -> dict[str, float]:
        """Run the probe on a device and compare it with float64 on the CPU.

        Returns:
            Errors divided by tolerances, by name.

        Raises:
            MismatchError: an error exceeds its tolerance.
        """
        got = {name: x.detach().cpu() for name, x in self.run(Side(device, backend=backend)).items()}
        want = {name: x.detach() for name, x in self.run(Side("cpu", exact=True)).items()}
        if self.exact:
            for name, x in want.items():
                require(torch.equal(got[name].to(x.dtype), x), f"{self.name}: {name} differs")
            return dict.fromkeys(want, 0.0)
        if self.terms:
            sizes = self.run(Side("cpu", exact=True, sizes=True))
            tolerance = {name: DEVIATIONS * products(self.terms) * x.detach() for name, x in sizes.items()}
        else:
            tolerance = {name: self.limit * x.abs().amax().expand_as(x) for name, x in want.items()}
        return all_close(got, want, tolerance, self.name)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return normally distributed numbers, float32, the same in every call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def linear(rows: int) -> Callable[[Side], Outputs]:
    """Make a function that computes ``Linear`` and its gradients for a number of rows.

    The device first runs a call with more rows, because the wrong products read what such a call left in memory. The
    widths are no multiples of a tile, since most wrong products have such widths.
    """

    def run(side: Side) -> Outputs:
        found: Outputs = {}
        for count in (rows,) if side.exact else (rows + 4096, rows):
            x, weight, bias = (side.leaf(t) for t in (normal(count, 48), normal(40, 48), normal(40)))
            y = F.linear(x, weight, bias)
            grads = torch.autograd.grad(y, (x, weight, bias), side.place(normal(count, 40, seed=1)))
            found = {"y": y, "grad_x": grads[0], "grad_weight": grads[1], "grad_bias": grads[2]}
        return found

    return run


def _adam(side: Side) -> Outputs:
    params = [side.leaf(normal(64, 33)), side.leaf(normal(64))]
    optimizer = torch.optim.Adam(params, lr=0.01, eps=1e-15, fused=True)
    for step in range(3):
        for param in params:
            param.grad = side.place(normal(*param.shape, seed=step) * 0.1)
        optimizer.step()
    return {f"param {i}": p for i, p in enumerate(params)}


def _clip(side: Side) -> Outputs:
    params = [side.leaf(normal(64, 33)), side.leaf(normal(64))]
    for param in params:
        param.grad = side.place(normal(*param.shape, seed=1))
    norm = torch.nn.utils.clip_grad_norm_(params, 0.5)
    return {"norm": norm, **{f"grad {i}": p.grad for i, p in enumerate(params) if p.grad is not None}}


def _losses(side: Side) -> Outputs:
    found: Outputs = {}
    for name, loss in (("huber", lambda a, b: F.huber_loss(a, b, delta=HUBER_DELTA)), ("mse", F.mse_loss)):
        rgb, truth = side.leaf(normal(4099, 3)), side.place(normal(4099, 3, seed=1))
        value = loss(rgb, truth)
        found |= {name: value, f"{name} grad": torch.autograd.grad(value, rgb)[0]}
    return found


def _clamps(side: Side) -> Outputs:
    x = side.place(normal(1000))
    bounds = (1.0, 0.5, 0.25)
    ints = side.place(torch.arange(-50, 50, dtype=torch.int32))
    found = {f"max {b}": x.clamp(max=b) for b in bounds} | {f"min {b}": x.clamp(min=b) for b in bounds}
    found |= {f"int {n}": (ints - n).clamp(0, n) for n in (16, 32)}
    return found | {"in place": torch.cat((x, x * 2.0)).clamp_(0.0, 1.0)}


def _counts(side: Side) -> Outputs:
    counts = torch.randint(0, 70, (100_003,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    counts = side.place(counts)
    info = pack_counts(counts)
    several = torch.stack([counts, counts * 2, counts.clamp(0, 16)]).sum(0, dtype=torch.int32)
    return {"info": info, "total": counts.sum(), "several": several, "kept": info[:, 1] * (counts >= 7)}


def _bits(side: Side) -> Outputs:
    mask = side.place(torch.rand(64_000, generator=torch.Generator().manual_seed(0)) < 0.4)
    bits = pack_bits(mask)
    both = bits.clone().bitwise_and_(bits.roll(1))
    return {"bits": bits, "mask": unpack_bits(bits), "both": both, "full": (bits != -1).any()}


def _rows(side: Side) -> Outputs:
    """Select the rays that hit and write their colours into an image, as rendering does."""
    hits = side.place(torch.rand(640_000, generator=torch.Generator().manual_seed(0)) < 0.3)
    rays = side.place(normal(640_000, 3))
    image = side.place(torch.ones(3)).expand(len(rays), 3).clone()
    chosen = hits.nonzero()[:, 0]
    for chunk in chosen.split(50_000):
        image[chunk] = rays[chunk]
    return {"chosen": chosen, "image": image}


def _places(side: Side) -> Outputs:
    """Read and write cells by index, as the occupancy grid does. A repeated cell gets equal values."""
    random = torch.Generator().manual_seed(0)
    cells = side.place(torch.randint(0, 5000, (4000,), generator=random, dtype=torch.int32))
    density = side.place(torch.where(torch.rand(5000, generator=random) < 0.5, float("inf"), normal(5000).abs()))
    seen = density.index_select(0, cells.long())
    density.index_copy_(0, cells.long(), seen.masked_fill(seen.isinf(), 0.0))
    along = side.place(normal(300, 16)).index_select(0, cells % 300)
    return {"density": density, "known": density.nan_to_num(posinf=0.0), "along": along}


def _views(side: Side) -> Outputs:
    x = side.place(normal(37, 20))
    flat = torch.zeros(300, device=x.device, dtype=x.dtype)
    for part, row in zip(flat.split([100, 64, 136]), x[:3, :17], strict=True):
        part[: len(row)] = row
    pieces = torch.cat([x.t().flatten(), *(p.contiguous().flatten() for p in x[5:].split(7))])
    filled = x.clone()
    filled[3:9].zero_()
    filled.view(-1)[11:17].fill_(2.0)
    return {"flat": flat, "pieces": pieces, "filled": filled, "stacked": torch.stack((x[:, 2:5], x[:, 5:8]), -1)}


def _half_views(side: Side) -> Outputs:
    """Copy half tensors that start at byte 6 of their storage, as slices of a batch may. Half holds their numbers
    exactly."""
    x = side.place(torch.arange(103.0) / 8.0)
    part = (x if side.exact else x.half())[3:]
    rows = part.view(20, 5)
    found = {"contiguous": rows.t().contiguous(), "joined": torch.cat((part, part)), "stacked": torch.stack((part,))}
    return found | {"cloned": part.clone(), "single": part[:1].clone(), "wide": part.float()}


def _encoding(side: Side) -> Outputs:
    encode, x = FrequencyEncoding(10), normal(3000, 3).clamp(-1.0, 1.0)
    if side.exact:  # from the same angles: float32 has few digits of the greatest angle
        angle = (encode.frequencies[:, None] * x[:, None, :]).flatten(1).double()
        return {"encoded": torch.cat((x.double(), angle.sin(), angle.cos()), -1)}
    return {"encoded": encode.to(side.device)(side.place(x))}


def _rays(side: Side) -> Outputs:
    camera = Intrinsics.from_fov_x(0.7, 97, 61)
    pose = look_at((4.0, 1.0, 2.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    rays_o, rays_d = image_rays(pose.to(side.device), camera)
    return {"rays_o": rays_o, "rays_d": rays_d}


# Of the first fifty seeds, these keep the arguments of all ReLUs farthest from 0, by 2.9e-5 and 1.8e-5: rounding
# changes no sign, and so no gradient.
NERF_SEED, HASH_SEED = 1, 39
BOX = torch.tensor([[-1.0, -0.8, -1.2], [1.0, 0.8, 1.2]])


def _placed(side: Side, seed: int, make: Callable[[], _Module]) -> _Module:
    """Return a module with random weights that are the same on both sides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make().to(side.device)
    return module.double() if side.exact else module


def _nerf_field(side: Side) -> Outputs:
    def make() -> CoarseFineField:
        return CoarseFineField(
            BOX,
            hidden_width=64,
            depth=4,
            skip=2,
            position_bands=4,  # with more bands, float32 loses digits of the angles
            direction_bands=2,
            density_activation="softplus",
        )

    model = _placed(side, NERF_SEED, make)
    positions, directions = side.place(normal(16, 16, 3) * 0.3), side.place(F.normalize(normal(16, 3), dim=-1))
    rgbs, sigmas = model.fine(model.normalized(positions), directions)
    loss = (rgbs * side.place(normal(16, 16, 3, seed=1))).sum() + (sigmas * side.place(normal(16, 16, seed=2))).sum()
    return _with_gradients(model.fine, loss, {"rgbs": rgbs, "sigmas": sigmas})


def _hash_field(side: Side) -> Outputs:
    def make() -> HashField:
        field = HashField(
            BOX,
            levels=4,
            features=4,
            log2_table_size=9,
            base_resolution=4,
            finest_resolution=32,
            width=32,
            backend=side.backend,
        )
        field.encoding.table.data.mul_(1e4)  # about the size of trained entries
        return field

    field = _placed(side, HASH_SEED, make)
    positions = side.place(torch.rand((500, 3), generator=torch.Generator().manual_seed(0)) - 0.5)
    directions = side.place(F.normalize(normal(20, 3), dim=-1))
    geometry = field.geometry(positions)
    rays = side.place(torch.arange(500, dtype=torch.int32) // 25)
    rgbs, sigmas = field.rgbs(geometry, directions, rays), field.sigmas(geometry)
    loss = (rgbs * side.place(normal(500, 3, seed=1))).sum() + (sigmas * side.place(normal(500, seed=2))).sum()
    return _with_gradients(field, loss, {"rgbs": rgbs, "sigmas": sigmas})


def _with_gradients(module: torch.nn.Module, loss: torch.Tensor, results: Outputs) -> Outputs:
    names, leaves = zip(*module.named_parameters(), strict=True)
    return results | dict(zip(names, torch.autograd.grad(loss, leaves), strict=True))


RELIED_ON = (
    Probe(f"Linear and gradients, {MAX_ROWS} rows", linear(MAX_ROWS), terms=MAX_ROWS, issues=(177116,)),
    Probe("NerfField and gradients", _nerf_field, limit=TRAINING_STEP),
    Probe("HashField and gradients", _hash_field, limit=TRAINING_STEP),
    Probe("Adam, fused, 3 steps", _adam),
    Probe("clip_grad_norm_", _clip),
    Probe("huber_loss, mse_loss and gradients", _losses, limit=TRAINING_STEP),
    Probe("sin, cos of the encoding's 10 bands", _encoding),
    Probe("rays of a picture", _rays),
    Probe("lerp_", lambda side: {"mean": side.place(normal(9001)).lerp_(side.place(normal(9001, seed=1)), 0.07)}),
    Probe("clamp by one bound after another", _clamps, issues=(167767, 147510)),
    Probe("cumsum and sums of int32", _counts, exact=True, issues=(90635,)),
    Probe("bits: shifts and sums of int64", _bits, exact=True, issues=(147889,)),
    Probe("nonzero; rows read and written by index", _rows, exact=True, issues=(125100,)),
    Probe("index_select, index_copy_, masked_fill", _places, exact=True, issues=(166237, 160993)),
    Probe("views: written, split, joined, filled", _views, exact=True, issues=(114692,)),
    Probe("half views at odd offsets: copied, joined", _half_views, exact=True, issues=(182839,)),
)
