"""The options of a training run: their names, defaults with reasons, and their ranges.

Nothing here imports torch: ``--help`` must come at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nerf_metal.train.presets import PRESETS
from nerf_metal.util.errors import InputError
from nerf_metal.util.limits import MOST_CASCADES

Backend = Literal["auto", "metal", "host", "torch"]


@dataclass(frozen=True)
class RunOptions:
    """The run: what it is given and when it ends."""

    preset: str = "fast"
    """Set of defaults: fast (hash grid; the best in any time), small (a classic NeRF for minutes on a CPU), classic
    (the NeRF paper's sizes, for a GPU), baseline (the run that failed) or stable (its repair). Every option below
    overrides it; nerf-metal presets shows them side by side."""
    data: str | None = None
    """Folder of a scene: NeRF-synthetic (Blender), transforms.json (instant-ngp, nerfstudio), LLFF or COLMAP. None: the
    scene that the package makes itself."""
    out: str | None = None
    """Run folder to create. None: runs/SCENE-PRESET-TIME."""
    overwrite: bool = False
    """Replace the run folder if it exists. Only a folder that holds a run is ever deleted."""
    resume: str | None = None
    """Run folder to go on with, from its last checkpoint and with its options; --steps and --max-seconds
    count from the start of that run."""
    steps: int | None = None
    """Training steps. None: no limit. If this or --epochs is given, the preset's other limits are off."""
    epochs: int | None = None
    """Training epochs, of --steps-per-epoch steps each. None: no limit."""
    # the scene of the package is sharp by then on two slow cores
    max_seconds: float | None = 60.0
    """Seconds of training, not counting evaluation and pictures. None: no limit."""
    seed: int = 0
    """Of weights, batches and jitter. On a CPU, equal seeds and --steps give equal runs."""
    quiet: bool = False
    """Print the final table and nothing else."""
    view: bool = False
    """Show the training in a web page (pip install 'nerf-metal[view]')."""
    view_host: str = "127.0.0.1"  # this machine alone
    """Address that the page is served on; 0.0.0.0 lets the whole network in."""
    view_port: int = 7007  # nerfstudio's
    """Port of the page; the next free one where it is taken."""
    log: Literal["none", "tensorboard"] = "none"
    """tensorboard: also write the record for TensorBoard into RUN/tensorboard (pip install
    'nerf-metal[tensorboard]')."""


@dataclass(frozen=True)
class DeviceOptions:
    """The machine."""

    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    """Where to train. auto: mps, else cuda, else cpu."""
    backend: Backend = "auto"
    """Who computes what has a kernel; see nerf-metal doctor."""
    # half of the smallest Mac's 8 GB; steps of any preset on a CPU take less
    max_memory: float = 4.0
    """GB for images, weights and activations. Photographs that take more than half of it stay on disk. A batch of the
    frequency field that needs more is split, with the same result; one of the hash grid is refused."""
    deterministic: bool = False
    """Equal seeds give equal bits on a GPU too, by slower sums. On a CPU they always do."""


@dataclass(frozen=True)
class SceneOptions:
    """The pictures."""

    format: str = "auto"
    """Format of --data. auto detects it by the files in the folder; a wrong name lists the formats."""
    downscale: int | None = None
    """Shrink images by this factor; evaluation is at the same size. None: images as they are, photographs by the least
    factor that leaves at most 1600 pixels. The scene of the package is 800 pixels wide at 1; None makes it at 4, in
    seconds instead of minutes."""
    hold_out: int = 8  # what LLFF captures are measured by since Mildenhall et al. 2019
    """Of photographs, every so many-th, beginning with the first, is left out of the training and measured on."""
    orient: bool = True
    """Turn a capture upright; it is centred and scaled in any case."""
    scene_scale: float = 1.0
    """Enlarge a capture by this factor within its box: what is beyond the box is seen less sharply."""
    cascades: int | None = None
    """Boxes of a scene, each twice as large as the one before: 1 ends at the box. None: what the capture needs."""
    appearance: Literal["none", "exposure"] = "none"
    """exposure: learn a gain of each colour for each training image, where exposure or white balance changed between
    them."""
    refine_poses: bool = False
    """Learn a small turn and shift of each training camera, where poses are not exact."""
    pose_lr: float = 1e-3  # nerfstudio's: a tenth of a degree in the first steps
    """Learning rate of --refine-poses at the start; it follows --lr-decay."""
    # a field cannot paint the background, so it cannot collapse to a blank page
    background: Literal["white", "black", "random"] = "random"
    """Behind transparent pixels, in training and evaluation. random: another colour for each ray in
    training, white in evaluation."""
    # on Lego a quarter of the rays drop out, and the others cross less than half the length
    tight_box: bool = True
    """Sample only the box around the visual hull, found from the images' alpha; the hash grid's rays only the hull
    itself."""


@dataclass(frozen=True)
class NetworkOptions:
    """The field."""

    field: Literal["hashgrid", "frequency"] = "hashgrid"
    """hashgrid: a table of features and small fused networks (instant-ngp). frequency: the two networks of the
    NeRF paper."""
    # 64 is the widest that a step's rows pass through in registers and near caches; 2 dB more than 32
    hidden_width: int = 64
    """Units of a layer; at most 128 with a hash grid."""


@dataclass(frozen=True)
class HashGridOptions:
    """The hash grid, with --field hashgrid alone."""

    # 8 levels of 4 features are 64 reads a sample, 16 of 2 are 128 for no better picture
    levels: int = 8
    """Resolutions side by side."""
    level_features: Literal[1, 2, 4, 8] = 4
    """Numbers of an entry."""
    log2_table_size: int = 18
    """Most entries of a level, as a power of two."""
    base_resolution: int = 16
    """Cells of the coarsest level along an axis of the box."""
    finest_resolution: int = 1024
    """Cells of the finest level: a pixel of an 800 x 800 picture."""
    grid_resolution: int = 128
    """Cells of the occupancy grid along an axis of the box, a multiple of 4 from 8 to 256."""
    march_steps: int = 700
    """Samples on the box's diagonal, at most."""
    first_step: float = 4.0
    """At the start samples are longer by this factor: more rays for the same work."""
    batch_samples: int = 65536
    """Samples of a step; the number of rays follows."""


@dataclass(frozen=True)
class FrequencyOptions:
    """The two networks, coarse and fine, and their samples, with --field frequency alone."""

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
    batch_rays: int = 256  # more steps beat better steps: 512 rays were 1.5 dB behind for the same rays
    """Rays of a step."""
    num_samples: int = 16  # half the samples of twice the rays: 0.7 dB more than 32 + 32 in equal time
    """Coarse samples of a ray."""
    num_importance: int = 24  # the fine network also sees the coarse samples: 40 in all
    """Further samples where the coarse network found something."""
    precrop_steps: int = 0
    """Steps at the start that see only the middle of the pictures, half as wide and high: where a scene is mostly
    background, a field may learn that alone."""


@dataclass(frozen=True)
class OptimizerOptions:
    """Adam and its learning rate."""

    loss: Literal["huber", "mse"] = "huber"
    """Of a hash grid's colours; the frequency field has mean squared errors, coarse and fine."""
    # twice instant-ngp's: 0.9 dB more after 300 steps on Lego
    lr: float = 2e-2
    """Learning rate at the start."""
    lr_decay: float = 0.1
    """Factor on the learning rate over --lr-decay-steps, exponential."""
    lr_decay_steps: int | None = None
    """Steps of one --lr-decay. None: the whole run, by steps or seconds, whichever ends it."""
    warmup_steps: int = 50  # Adam's second moments are noise before
    """Steps in which the learning rate rises from near 0."""
    clip_norm: float = 1.0  # 30 times the norm of a healthy step (0.01 to 0.03): cuts accidents only
    """Greatest norm of a step's gradient; 0: no clipping. The hash grid has none: its table's gradients are scattered,
    and no two steps' alike."""
    # instant-ngp's
    ema_decay: float = 0.95
    """Of the average of the weights that pictures are made from, a step; 0: no average (a hash grid always has
    one)."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Measuring and recording."""

    eval_every_seconds: float | None = 25.0
    """Training seconds between evaluations; there is always one at the end. None: --report-every alone."""
    report_every: int = 50
    """Epochs between evaluations, beside those by time."""
    steps_per_epoch: int = 500
    """Steps of an epoch: epochs are a way to count, each batch is drawn from all pixels."""
    eval_views: int = 4
    """Test views to evaluate, evenly spaced; nerf-metal eval measures all of them."""
    checkpoint_every_seconds: float = 120.0  # what a crash may cost
    """Training seconds between checkpoints; every evaluation makes one too."""
    keep_checkpoints: int = 2
    """Newest checkpoints to keep; the best stays too."""


@dataclass(frozen=True)
class WatchdogOptions:
    """What happens when a run goes wrong: what the watchdog finds is printed and recorded in any case."""

    watchdog: str = "rollback"
    """warn: go on. rollback: go back to the last good checkpoint with a lower learning rate; after --max-rollbacks,
    stop. stop: end with a report. Exceptions by name behind it: rollback,blank-plateau=stop."""
    max_rollbacks: int = 3
    """Rollbacks of a run before it is stopped."""
    rollback_lr: float = 0.5  # three of them come close to the tenth that a decay ends at
    """Factor on the learning rate from each rollback on."""
    collapse_db: float = 3.0  # twice the error: no healthy run of ours has fallen by half of it
    """Fall of the PSNR below its best that is a collapse."""
    plateau_steps: int = 1000  # healthy runs of every preset beat a blank picture within 100
    """Steps without being better than a blank picture that are a plateau."""


@dataclass(frozen=True)
class TrainConfig(
    WatchdogOptions,
    EvaluationOptions,
    OptimizerOptions,
    FrequencyOptions,
    HashGridOptions,
    NetworkOptions,
    SceneOptions,
    DeviceOptions,
    RunOptions,
):
    """All options of a training run, flat. ``TrainConfig()`` is the preset ``fast``.

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
        for name in _MORE_THAN_0:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                _reject(name, "be more than 0 and finite", value, "leave it out for the preset's value")
        # Beyond, nothing of a capture is left in its box, or all of it is in one cell.
        if not 1e-3 <= self.scene_scale <= 1e3:
            _reject("scene_scale", "be from 0.001 to 1000", self.scene_scale, "1 is usual")
        if self.cascades is not None and self.cascades > MOST_CASCADES:
            _reject("cascades", f"be at most {MOST_CASCADES}", self.cascades, "5 reach 16 times as far as the box")
        if self.lr_decay > 1:
            _reject("lr_decay", "be at most 1", self.lr_decay, "it is the factor on the learning rate at the end")
        if self.ema_decay >= 1:
            _reject("ema_decay", "be less than 1", self.ema_decay, "it is what a step keeps of the average")
        if self.field == "hashgrid":
            self._check_hash_grid()
        if self.rollback_lr > 1:
            _reject("rollback_lr", "be at most 1", self.rollback_lr, "it is the factor on the learning rate")
        if self.step_limit is None and self.max_seconds is None:
            _reject("steps", "be given where --epochs and --max-seconds are not", None, "give one of them")
        watchdog_policies(self.watchdog)

    @property
    def step_limit(self) -> int | None:
        """Steps after which the run ends: by ``steps`` or ``epochs``, whichever comes first."""
        limits = [self.steps, self.epochs and self.epochs * self.steps_per_epoch]
        return min((limit for limit in limits if limit), default=None)

    def _check_hash_grid(self) -> None:
        if self.ema_decay == 0:
            _reject("ema_decay", "be more than 0 with a hash grid", 0, "0.95 is usual")
        for name, most in (("hidden_width", 128), ("log2_table_size", 24), ("finest_resolution", 2**20)):
            if getattr(self, name) > most:
                _reject(name, f"be at most {most} with a hash grid", getattr(self, name), "lower it")
        if self.finest_resolution < self.base_resolution:
            cure = "raise it, or lower --base-resolution"
            _reject("finest_resolution", f"be at least {self.base_resolution}", self.finest_resolution, cure)
        if self.levels * self.level_features > 128:
            cure = "lower one of them: the fused network takes at most 128"
            _reject("levels", "give at most 128 numbers with --level-features", self.levels, cure)
        if self.grid_resolution % 4 or not 8 <= self.grid_resolution <= 256:
            _reject("grid_resolution", "be a multiple of 4 from 8 to 256", self.grid_resolution, "128 is usual")


def _reject(name: str, expected: str, value: object, cure: str) -> None:
    raise InputError(f"[train] --{name.replace('_', '-')} must {expected}, got {value}; {cure}")


_MORE_THAN_0 = (
    *("lr", "lr_decay", "max_memory", "max_seconds", "eval_every_seconds", "checkpoint_every_seconds"),
    *("rollback_lr", "collapse_db", "scene_scale", "pose_lr"),
)

WATCHDOG_FAULTS = (
    *("non-finite", "collapse", "blank-plateau", "dead-density", "saturated-density", "exploding-gradients"),
    *("optimizer-reset", "wrong-matmul", "checkpoint-not-saved"),
)
"""Names of what the watchdog finds, see :mod:`nerf_metal.train.watchdog`."""
WATCHDOG_POLICIES = ("warn", "rollback", "stop")


def watchdog_policies(text: str) -> dict[str, str]:
    """The policy of every fault by name, from ``--watchdog``: ``POLICY`` or ``POLICY,FAULT=POLICY,...``.

    Raises:
        InputError: it cannot be read; the message names the part.
    """
    first, *exceptions = (part.strip() for part in text.split(","))
    chosen = dict.fromkeys(WATCHDOG_FAULTS, first)
    for part in exceptions:
        name, _, policy = part.partition("=")
        if name not in chosen:
            _reject("watchdog", f"have exceptions FAULT=POLICY of {', '.join(WATCHDOG_FAULTS)}", part, "mend its name")
        chosen[name] = policy
    for policy in chosen.values():
        if policy not in WATCHDOG_POLICIES:
            cure = "give one, and exceptions behind it: rollback,blank-plateau=stop"
            _reject("watchdog", f"be one of {', '.join(WATCHDOG_POLICIES)}", policy or text, cure)
    return chosen


_LEAST = {
    "steps": 1,
    "epochs": 1,
    "max_seconds": 0,
    "max_memory": 0,
    "seed": 0,
    "downscale": 1,
    "hold_out": 2,
    "cascades": 1,
    "hidden_width": 2,  # the colour layer has half of it
    "depth": 1,
    "skip": 0,
    "position_levels": 0,
    "direction_levels": 0,
    "levels": 1,
    "log2_table_size": 4,  # a level begins on a cache line of its own
    "base_resolution": 1,
    "march_steps": 1,
    "first_step": 1,
    "batch_samples": 1,
    "batch_rays": 1,
    "num_samples": 1,
    "num_importance": 1,
    "lr": 0,
    "lr_decay": 0,
    "lr_decay_steps": 1,
    "warmup_steps": 0,
    "clip_norm": 0,
    "eval_every_seconds": 0,
    "ema_decay": 0,
    "precrop_steps": 0,
    "eval_views": 1,
    "steps_per_epoch": 1,
    "report_every": 1,
    "checkpoint_every_seconds": 0,
    "keep_checkpoints": 1,
    "max_rollbacks": 0,
    "rollback_lr": 0,
    "collapse_db": 0,
    "plateau_steps": 1,
}

GROUPS = {
    "run": RunOptions,
    "device": DeviceOptions,
    "scene": SceneOptions,
    "network": NetworkOptions,
    "hashgrid": HashGridOptions,
    "frequency": FrequencyOptions,
    "optimizer": OptimizerOptions,
    "evaluation": EvaluationOptions,
    "watchdog": WatchdogOptions,
}

NOT_KEPT = ("resume", "overwrite", "quiet", "view", "view_host", "view_port", "log")
"""Options of one call, not of the run: left out of ``config.json``."""

FIXED_IN_A_RUN = (
    *("preset", "data", "out", "downscale", "background", "tight_box", "seed", "hidden_width", "field", "eval_views"),
    *("levels", "level_features", "log2_table_size", "base_resolution", "finest_resolution", "grid_resolution"),
    *("format", "hold_out", "orient", "scene_scale", "cascades", "appearance", "refine_poses"),
    *("depth", "skip", "position_levels", "direction_levels", "density_activation", "ema_decay"),
)
"""Options that a resumed run cannot change: another value would be another run, or another measure of it."""


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
