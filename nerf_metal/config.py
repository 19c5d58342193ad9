"""The options of a training run: their names, defaults with reasons, presets, and how they are read.

Nothing here imports torch: ``--help`` must come at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nerf_metal.errors import InputError


@dataclass(frozen=True)
class RunOptions:
    """The run: what it is given and when it ends."""

    preset: str = "small"
    """Set of defaults: small (minutes on a CPU) or classic (the NeRF paper's sizes, for a GPU). Every option
    below overrides it; --preset classic --help shows its values."""
    data: str | None = None
    """Folder of a scene in NeRF-synthetic (Blender) format. None: the scene that the package makes itself."""
    out: str | None = None
    """Run folder to create. None: runs/SCENE-PRESET-TIME."""
    overwrite: bool = False
    """Replace the run folder if it exists. Only a folder that holds a run is ever deleted."""
    resume: str | None = None
    """Run folder to go on with, from its last checkpoint and with its options; --steps and --max-seconds
    count from the start of that run."""
    steps: int | None = None
    """Training steps. None: no limit (and without --max-seconds the preset's time limit is off if this is
    given)."""
    # with scene, evaluations and plots well within 3 minutes on two slow cores
    max_seconds: float | None = 100.0
    """Seconds of training, not counting evaluation and pictures. None: no limit."""
    seed: int = 0
    """Of weights, batches and jitter. On a CPU, equal seeds and --steps give equal runs."""
    quiet: bool = False
    """Print the final table and nothing else."""


@dataclass(frozen=True)
class DeviceOptions:
    """The machine."""

    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    """Where to train. auto: mps, else cuda, else cpu."""
    backend: Literal["auto", "metal", "host", "torch"] = "auto"
    """Who computes marching, importance sampling and compositing; see nerf-metal doctor."""
    # half of the smallest Mac's 8 GB; steps of either preset on a CPU take less
    max_memory: float = 4.0
    """GB for images, weights and activations. A batch that needs more is split, with the same result."""


@dataclass(frozen=True)
class SceneOptions:
    """The pictures."""

    # 100 x 100 pixels of an 800 x 800 scene: as fine as 100 s on two cores can learn
    downscale: int = 8
    """Shrink images by this factor; evaluation is at the same size. The scene of the package is 800 pixels
    wide at 1."""
    # a field cannot paint the background, so it cannot collapse to a blank page
    background: Literal["white", "black", "random"] = "random"
    """Behind transparent pixels, in training and evaluation. random: another colour for each ray in
    training, white in evaluation."""
    # on Lego a quarter of the rays drop out, and the others cross less than half the length
    tight_box: bool = True
    """Sample only the box around the visual hull, found from the images' alpha."""


@dataclass(frozen=True)
class NetworkOptions:
    """The two networks, coarse and fine."""

    # small enough for ten thousand rays a second on two cores
    hidden_width: int = 64
    """Units of a layer."""
    depth: int = 4
    """Layers before density and colour."""
    skip: int = 0  # 4 layers are shallow enough to do without
    """The position enters again behind this many layers; 0: never."""
    position_levels: int = 7  # 2^6 periods over the box, about a pixel at 100 x 100: finer is noise
    """Levels of the positions' frequency encoding."""
    direction_levels: int = 2  # highlights, but not one colour for each view
    """Levels of the directions' frequency encoding."""
    # relu can die at the start
    density_activation: Literal["softplus", "relu", "trunc_exp"] = "softplus"
    """From the network's output to a density; softplus is softplus(x - 1)."""


@dataclass(frozen=True)
class SamplingOptions:
    """Rays and samples."""

    batch_rays: int = 256  # more steps beat better steps: 512 rays were 1.5 dB behind for the same rays
    """Rays of a step."""
    num_samples: int = 16  # half the samples of twice the rays: 0.7 dB more than 32 + 32 in equal time
    """Coarse samples of a ray."""
    num_importance: int = 24  # the fine network also sees the coarse samples: 40 in all
    """Further samples where the coarse network found something."""


@dataclass(frozen=True)
class OptimizerOptions:
    """Adam and its learning rate."""

    lr: float = 1e-2  # small networks bear it: 2.8 dB more than 2e-3 after 1200 steps, 2e-2 is no better
    """Learning rate at the start."""
    lr_decay: float = 0.05
    """Factor on the learning rate over --lr-decay-steps, exponential."""
    lr_decay_steps: int | None = None
    """Steps of one --lr-decay. None: the whole run, by steps or seconds, whichever ends it."""
    warmup_steps: int = 50  # Adam's second moments are noise before
    """Steps in which the learning rate rises from near 0."""
    clip_norm: float = 1.0  # 30 times the norm of a healthy step (0.01 to 0.03): cuts accidents only
    """Greatest norm of a step's gradient; 0: no clipping."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Measuring and recording."""

    eval_every_seconds: float = 25.0
    """Training seconds between evaluations; there is always one at the end."""
    eval_views: int = 4
    """Test views to evaluate, evenly spaced; nerf-metal eval measures all of them."""
    steps_per_epoch: int = 500
    """Only a way to count: quick renders are named by epoch."""


@dataclass(frozen=True)
class TrainConfig(
    EvaluationOptions,
    OptimizerOptions,
    SamplingOptions,
    NetworkOptions,
    SceneOptions,
    DeviceOptions,
    RunOptions,
):
    """All options of a training run, flat. ``TrainConfig()`` is the preset ``small``.

    Raises:
        InputError: a value is out of its range; the message names the option.
    """

    def __post_init__(self) -> None:
        """Check every value."""
        if self.preset not in PRESETS:
            close = difflib.get_close_matches(self.preset, PRESETS, 1)
            cure = f"did you mean {close[0]}?" if close else "choose one of them"
            _reject("preset", f"be one of {', '.join(PRESETS)}", self.preset, cure)
        for field in dataclasses.fields(self):
            least = _LEAST.get(field.name)
            value = getattr(self, field.name)
            if least is None or value is None:
                continue
            if not (math.isfinite(value) and value >= least):
                _reject(field.name, f"be at least {least}", value, "give a number in that range or leave it out")
        for name in ("lr", "lr_decay", "max_memory", "max_seconds", "eval_every_seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                _reject(name, "be more than 0", value, "leave it out for the preset's value")
        if self.lr_decay > 1:
            _reject("lr_decay", "be at most 1", self.lr_decay, "it is the factor on the learning rate at the end")
        if self.steps is None and self.max_seconds is None:
            _reject("steps", "be given where --max-seconds is not", None, "give one of them")


def _reject(name: str, expected: str, value: object, cure: str) -> None:
    raise InputError(f"[train] --{name.replace('_', '-')} must {expected}, got {value}; {cure}")


_LEAST = {
    "steps": 1,
    "max_seconds": 0,
    "max_memory": 0,
    "seed": 0,
    "downscale": 1,
    "hidden_width": 2,  # the colour layer has half of it
    "depth": 1,
    "skip": 0,
    "position_levels": 0,
    "direction_levels": 0,
    "batch_rays": 1,
    "num_samples": 1,
    "num_importance": 1,
    "lr": 0,
    "lr_decay": 0,
    "lr_decay_steps": 1,
    "warmup_steps": 0,
    "clip_norm": 0,
    "eval_every_seconds": 0,
    "eval_views": 1,
    "steps_per_epoch": 1,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "small": {},
    # Mildenhall et al. 2020, section 5.3, with the authors' Lego configuration where the paper is silent;
    # softplus instead of ReLU, whose densities can die, and white as in published figures.
    "classic": {
        "steps": 250_000,
        "max_seconds": None,
        "downscale": 2,
        "background": "white",
        "tight_box": False,
        "hidden_width": 256,
        "depth": 8,
        "skip": 4,
        "position_levels": 10,
        "direction_levels": 4,
        "batch_rays": 4096,
        "num_samples": 64,
        "num_importance": 128,
        "lr": 5e-4,
        "lr_decay": 0.1,
        "lr_decay_steps": 250_000,
        "warmup_steps": 500,
        "clip_norm": 0.0,
        "eval_every_seconds": 600.0,
        "eval_views": 4,
    },
}

GROUPS = {
    "run": RunOptions,
    "device": DeviceOptions,
    "scene": SceneOptions,
    "network": NetworkOptions,
    "sampling": SamplingOptions,
    "optimizer": OptimizerOptions,
    "evaluation": EvaluationOptions,
}

NOT_KEPT = ("resume", "overwrite", "quiet")
"""Options of one call, not of the run: left out of ``config.json``."""

FIXED_IN_A_RUN = (
    *("preset", "data", "out", "downscale", "tight_box", "seed"),
    *(field.name for field in dataclasses.fields(NetworkOptions)),
)
"""Options that a resumed run cannot change: another value would be another run."""


def preset_config(name: str) -> TrainConfig:
    """The options of a preset.

    Raises:
        InputError: no such preset.
    """
    return TrainConfig(**{**PRESETS.get(name, {}), "preset": name})


def to_json(config: TrainConfig) -> dict[str, Any]:
    """The options that belong to the run, as JSON holds them."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in NOT_KEPT}


def from_json(values: Mapping[str, Any], where: str) -> TrainConfig:
    """The inverse of :func:`to_json`; ``where`` names the file in messages.

    Raises:
        InputError: unknown options, or values out of range.
    """
    unknown = sorted(set(values) - {field.name for field in dataclasses.fields(TrainConfig)})
    if unknown:
        raise InputError(
            f"[train] {where} must hold options that this version knows, got {', '.join(unknown)}; "
            "use the version that wrote it"
        )
    return TrainConfig(**values)


def given(args: Sequence[str], option: str) -> str | None:
    """The value given to ``option`` (``--name value`` or ``--name=value``) in arguments, the last one;
    else None."""
    value = None
    for position, word in enumerate(args):
        if word == option and position + 1 < len(args):
            value = args[position + 1]
        elif word.startswith(option + "="):
            value = word[len(option) + 1 :]
    return value


def parse(args: Sequence[str], default: TrainConfig) -> TrainConfig:
    """Read ``nerf-metal train`` options over ``default``.

    Raises:
        InputError: a value is out of its range.
        SystemExit: ``--help``, or words that are no options (tyro prints which).
    """
    import tyro  # not needed by those who build a TrainConfig in Python

    if given(args, "--steps") is not None and given(args, "--max-seconds") is None:
        default = dataclasses.replace(default, steps=1, max_seconds=None)  # 1: overridden by what was given
    # tyro groups the help by nested dataclass: nest for the parser alone, and flatten what it returns.
    nested = dataclasses.make_dataclass("Options", [(name, kind) for name, kind in GROUPS.items()])
    defaults = {
        name: kind(**{field.name: getattr(default, field.name) for field in dataclasses.fields(kind)})
        for name, kind in GROUPS.items()
    }
    options = tyro.cli(
        nested,
        prog="nerf-metal train",
        description=("Train a NeRF. Without options: the scene of the package, on the best device, in minutes."),
        args=list(args),
        default=nested(**defaults),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    flat: dict[str, Any] = {}
    for name in GROUPS:
        flat.update(vars(getattr(options, name)))
    return TrainConfig(**flat)
