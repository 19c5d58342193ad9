"""Named inputs of compositing: awkward sizes, densities and memory layouts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

FLOAT32_MAX = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class CompositeInputs:
    """Arguments of ``composite_rays``, float32 or half, on the CPU."""

    t_starts: torch.Tensor
    t_ends: torch.Tensor
    rgbs: torch.Tensor
    values: torch.Tensor
    is_alpha: bool
    packed_info: torch.Tensor | None
    background: torch.Tensor | None
    early_stop_eps: float

    @property
    def rays(self) -> int:
        """How many."""
        return len(self.values if self.packed_info is None else self.packed_info)


@dataclass(frozen=True)
class CompositeCase:
    """A recipe: ``build`` gives the same inputs every time.

    ``samples`` is per ray in the dense form. ``packed`` names a layout of :func:`pack`; ``rays`` and ``samples`` then
    say how many rays there are and how many samples a ray has on average.
    """

    name: str
    rays: int
    samples: int
    density: str = "ordinary"
    times: str = "edges"
    color: str = "random"
    packed: str | None = None
    background: str | None = None
    early_stop_eps: float = 0.0
    half: bool = False

    def build(self) -> CompositeInputs:
        """The same inputs every time, with no transmittance at the threshold."""
        for seed in range(50):
            inputs = self._build(seed)
            if self.early_stop_eps == 0 or _clear_of_the_threshold(inputs):
                return inputs
        raise RuntimeError(f"[{self.name}] no seed keeps transmittances away from early_stop_eps")

    def _build(self, seed: int) -> CompositeInputs:
        random = torch.Generator().manual_seed(1000 * self.rays + self.samples + 77 * seed)
        packed_info, total = None, None
        if self.packed is not None:
            packed_info, total = pack(self.packed, self.rays, self.samples)
        shape = (self.rays, self.samples) if total is None else (total,)
        dtype = torch.float16 if self.half else torch.float32
        t_starts, t_ends = times(self.times, shape, random)
        background = None
        if self.background is not None:
            background = torch.rand((3,) if self.background == "shared" else (self.rays, 3), generator=random)
        return CompositeInputs(
            t_starts,
            t_ends,
            colors(self.color, shape, random).to(dtype),
            densities(self.density, shape, random).to(dtype),
            self.density.startswith("alpha"),
            packed_info,
            background,
            self.early_stop_eps,
        )


def densities(kind: str, shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    """Densities, or opacities for the kinds that begin with alpha."""
    u = torch.rand(shape, generator=random)
    fixed = {"zero": 0.0, "denormal": 1e-40, "tiny": 1e-6, "opaque": 1e6, "same": 0.7}
    fixed |= {"alpha-zero": 0.0, "alpha-one": 1.0}
    if kind in fixed:
        return torch.full(shape, fixed[kind])
    if kind == "huge":
        choice = torch.tensor([0.0, 0.5, 1e6, 1e30, FLOAT32_MAX, float("inf"), -1e30, -float("inf")])
        return choice[torch.where(u < 0.9, u * 2.2, 2.0 + (u - 0.9) * 59.9).long()]  # mostly faint, then the rest
    if kind == "negative":
        return u * 4.0 - 2.0
    if kind == "surface":
        return torch.where(u < 0.9, torch.zeros(()), 30.0 * u)
    if kind == "alpha":
        return u * 0.3
    if kind == "alpha-ends":
        return torch.where(u < 0.2, torch.zeros(()), torch.where(u > 0.9, torch.ones(()), u * 0.2))
    if kind == "expanded":
        return torch.rand((1,) * len(shape), generator=random).expand(shape)
    if kind == "transposed":
        return torch.rand(shape[::-1], generator=random).t()
    assert kind == "ordinary", kind
    return u * 3.0


def times(kind: str, shape: tuple[int, ...], random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Starts and ends: views of one edges tensor unless the kind says otherwise."""
    *rows, samples = shape
    gaps = torch.rand((*rows, samples + 1), generator=random) * (4.0 / max(samples, 1))
    if kind == "even":  # equal factors, whose rounding errors add up instead of cancelling
        gaps[:] = 4.0 / max(samples, 1)
    if kind == "no-length":
        gaps[..., ::3] = 0.0
    edges = 2.0 + gaps.cumsum(-1)
    if kind == "wide":  # columns of a wider tensor: an offset, and a row stride beyond the samples
        wide = torch.full((*rows, samples + 9), float("nan"))
        wide[..., 4 : 5 + samples] = edges
        edges = wide[..., 4 : 5 + samples]
    if kind == "every-other":  # a column stride of 2
        edges = torch.stack((edges, torch.full_like(edges, float("nan"))), -1).flatten(-2)[..., ::2]
    t_starts, t_ends = edges[..., :-1], edges[..., 1:]
    if kind == "apart":  # intervals that do not touch, in tensors of their own
        return t_starts.clone(), t_starts + 0.7 * (t_ends - t_starts)
    if kind == "different-strides":
        return t_starts, t_ends.clone()
    if kind == "transposed":
        return t_starts.t().contiguous().t(), t_ends.t().contiguous().t()
    if kind == "expanded":
        return t_starts[:1].expand(shape), t_ends[:1].expand(shape)
    assert kind in ("edges", "even", "every-other", "no-length", "wide"), kind
    return t_starts, t_ends


def colors(kind: str, shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    """Colours in [0, 1]."""
    if kind == "uniform":
        return torch.tensor([0.25, 0.5, 0.75]).expand(*shape, 3)
    if kind == "offset":  # contiguous, but not from the start of its storage
        return torch.rand((2, *shape, 3), generator=random)[1]
    if kind == "planes":  # channels first in memory
        return torch.rand((3, *shape), generator=random).movedim(0, -1)
    assert kind == "random", kind
    return torch.rand((*shape, 3), generator=random)


def pack(kind: str, rays: int, samples: int) -> tuple[torch.Tensor, int]:
    """``packed_info`` ``[rays, 2]`` and the number of samples in all."""
    count = torch.full((rays,), samples)
    if kind == "uneven":
        count = (torch.arange(rays) * 7) % (2 * samples + 1)
    elif kind == "empty-rays":
        count[::2] = 0
    elif kind == "one-owns-all":
        count[:] = 0
        count[rays // 2] = rays * samples
    elif kind == "no-samples":
        count[:] = 0
    start = count.cumsum(0) - count
    total = int(count.sum())
    if kind == "gaps":  # before, between and behind the rays lie samples that are nobody's
        start = start + 5 * torch.arange(1, rays + 1)
        total += 5 * (rays + 1)
    elif kind == "unsorted":
        start = start.flip(0)
    else:
        assert kind in ("even", "uneven", "empty-rays", "one-owns-all", "no-samples", "int32"), kind
    info = torch.stack((start, count), -1)
    return (info.to(torch.int32) if kind == "int32" else info), total


def _clear_of_the_threshold(inputs: CompositeInputs) -> bool:
    """No transmittance so near to the threshold that rounding decides on which side it lies."""
    keep = 1.0 - inputs.values.double()
    if not inputs.is_alpha:
        sigmas = inputs.values.double().clamp(0.0, FLOAT32_MAX)
        keep = torch.exp(-sigmas * (inputs.t_ends.double() - inputs.t_starts.double()))
    rays = [keep] if inputs.packed_info is None else [keep[s : s + n][None] for s, n in inputs.packed_info.tolist()]
    fronts = torch.cat([k.cumprod(-1).flatten() for k in rays])
    return bool(((fronts / inputs.early_stop_eps - 1.0).abs() > 1e-4).all())


def _composite_cases() -> tuple[CompositeCase, ...]:
    # Around the blocks of the plain kernels (16, 64) and the SIMD width.
    sizes = [(1, n) for n in (1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 81, 129, 192)]
    sizes += [(0, 5), (0, 0), (3, 0), (31, 33), (33, 31), (33, 1), (257, 65)]
    base = CompositeCase("", 33, 65, background="each")
    packed = replace(base, rays=31, samples=13)
    return (
        *(CompositeCase(f"{rays}x{samples}", rays, samples, background="shared") for rays, samples in sizes),
        *(
            replace(base, name=f"{kind}-density", density=kind)
            for kind in ("zero", "denormal", "tiny", "opaque", "huge", "negative", "surface")
        ),
        *(replace(base, name=kind, density=kind) for kind in ("alpha", "alpha-zero", "alpha-one", "alpha-ends")),
        replace(base, name="alpha-192", density="alpha-ends", samples=192, background=None),
        replace(base, name="tiny-192", density="tiny", samples=192),
        replace(base, name="same-192", density="same", times="even", samples=192),
        replace(base, name="no-length", times="no-length"),
        replace(base, name="huge-no-length", times="no-length", density="huge"),
        replace(base, name="black", background=None),
        replace(base, name="uniform-color", color="uniform", background="shared"),
        # layouts
        replace(base, name="apart", times="apart"),
        replace(base, name="wide-rows", times="wide"),
        replace(base, name="every-other-time", times="every-other"),
        replace(base, name="different-strides", times="different-strides"),
        replace(base, name="transposed", times="transposed", density="transposed"),
        replace(base, name="expanded", times="expanded", density="expanded", color="uniform"),
        replace(base, name="offset-colors", color="offset"),
        replace(base, name="color-planes", color="planes"),
        # early stop: in the first block, in a later one, at the last sample of a block, never
        replace(base, name="stop-1e-4", samples=192, density="surface", early_stop_eps=1e-4),
        replace(base, name="stop-0.3", early_stop_eps=0.3),
        replace(base, name="stop-0.3-wide", samples=192, early_stop_eps=0.3, times="wide", background=None),
        replace(base, name="stop-never", density="tiny", early_stop_eps=0.3),
        replace(base, name="stop-opaque", density="opaque", samples=65, early_stop_eps=1e-4),
        replace(base, name="stop-alpha", density="alpha", samples=192, early_stop_eps=0.3),
        replace(base, name="stop-alpha-ends", density="alpha-ends", samples=100, early_stop_eps=1e-4),
        # packed
        *(
            replace(packed, name=f"packed-{kind}", packed=kind)
            for kind in (
                "even",
                "int32",
                "uneven",
                "empty-rays",
                "gaps",
                "unsorted",
                "one-owns-all",
                "no-samples",
            )
        ),
        replace(packed, name="packed-one-ray", packed="even", rays=1, samples=65),
        replace(packed, name="packed-no-rays", packed="even", rays=0),
        replace(packed, name="packed-long", packed="uneven", samples=70, density="surface", background="shared"),
        replace(packed, name="packed-stop", packed="gaps", samples=70, early_stop_eps=0.3, background=None),
        replace(packed, name="packed-alpha", packed="unsorted", samples=33, density="alpha-ends"),
        replace(packed, name="packed-apart", packed="gaps", times="apart", density="huge"),
    )


COMPOSITE_CASES = _composite_cases()
COMPOSITE_HALF_CASES = tuple(
    replace(case, name=f"half-{case.name}", half=True)
    for case in COMPOSITE_CASES
    if case.name in ("1x1", "1x33", "257x65", "huge-density", "tiny-density", "denormal-density", "surface-density")
    or case.name in ("negative-density", "alpha", "alpha-ends", "wide-rows", "transposed", "stop-0.3", "packed-gaps")
    or case.name in ("3x0", "packed-long", "packed-no-rays", "offset-colors")
)
