"""The options of a training run. Each is declared in one place: its default with a reason, its limits and its help.

To add an option, add a field to a group below (or to the options of a model in :mod:`nerf_metal.models`) and use it.
Nothing here imports torch, because ``--help`` must be fast.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nerf_metal.models.coarse_fine.options import CoarseFineConfig, FrequencyOptions
from nerf_metal.models.hash_grid.options import HashGridConfig, HashGridOptions
from nerf_metal.models.options import CommonOptions
from nerf_metal.train.presets import PRESETS
from nerf_metal.util.errors import InputError
from nerf_metal.util.options import check_limits, named, old_names, option, reject, taken_from


@dataclass(frozen=True)
class RunOptions:
    """The run: its input, its output and its end."""

    preset: str = option("fast", fixed=True)
    """Set of defaults. fast: a hash grid, the best at any training time. small: a classic NeRF for minutes on a CPU.
    classic: the sizes of the NeRF paper, for a GPU. baseline: the run that failed. stable: the repair of that run.
    Every option below overrides the preset. nerf-metal presets shows the presets side by side."""
    data: str | None = option(None, fixed=True)
    """Folder of a scene: NeRF-synthetic (Blender), transforms.json (instant-ngp, nerfstudio), LLFF or COLMAP. None: the
    built-in scene."""
    out: str | None = option(None, fixed=True)
    """Run folder to create. None: runs/SCENE-PRESET-TIME."""
    overwrite: bool = option(False, kept=False)
    """Replace the run folder if it exists. Only a folder that holds a run is ever deleted."""
    resume: str | None = option(None, kept=False)
    """Run folder to continue from its last checkpoint, with its options. --steps and --max-seconds count from the start
    of that run."""
    steps: int | None = option(None, at_least=1)
    """Number of training steps. None: no limit. If you give this or --epochs, the other limits of the preset are
    off."""
    epochs: int | None = option(None, at_least=1)
    """Number of epochs of --steps-per-epoch steps each. None: no limit."""
    # the built-in scene is sharp by then on two slow cores
    max_seconds: float | None = option(60.0, above=0)
    """Seconds of training. Evaluation and pictures do not count. None: no limit."""
    seed: int = option(0, at_least=0, fixed=True)
    """Seed of weights, batches and jitter. On a CPU, runs with equal seeds and equal --steps are equal."""
    quiet: bool = option(False, kept=False)
    """Print only the final table."""
    view: bool = option(False, kept=False)
    """Show the training in a web page. Needs: pip install 'nerf-metal[view]'."""
    view_host: str = option("127.0.0.1", kept=False)  # this machine alone
    """Address on which the page is served. 0.0.0.0 opens it to the whole network."""
    view_port: int = option(7007, kept=False)  # nerfstudio's
    """Port of the page. The next free port is used if this one is taken."""
    log: Literal["none", "tensorboard"] = option("none", kept=False)
    """tensorboard: also write the record to RUN/tensorboard. Needs: pip install 'nerf-metal[tensorboard]'."""


@dataclass(frozen=True)
class DeviceOptions:
    """The machine."""

    device: Literal["auto", "cpu", "mps", "cuda"] = option("auto")
    """Device to train on. auto: mps if available, else cuda, else cpu."""
    # half of the smallest Mac's 8 GB; steps of any preset on a CPU take less
    max_memory: float = option(4.0, above=0)
    """Memory in GB for images, weights and activations. Photographs that need more than half of it stay on disk. A
    batch of the frequency field that needs more is split, with the same result. A hash grid that needs more is
    refused."""


@dataclass(frozen=True)
class SceneOptions:
    """The images."""

    format: str = option("auto", fixed=True)
    """Format of --data. auto: detect it by the files in the folder. A wrong name lists the formats."""
    downscale: int | None = option(None, at_least=1, fixed=True)
    """Shrink the images by this factor. Evaluation uses the same size. None: keep rendered images as they are, and
    shrink photographs by the least factor that leaves at most 1600 pixels. The built-in scene is 800 pixels wide at 1.
    None uses 4 for it, so that it is made in seconds instead of minutes."""
    hold_out: int = option(8, at_least=2, fixed=True)  # LLFF captures are measured so since Mildenhall et al. 2019
    """Hold out every N-th photograph for testing, starting with the first."""
    orient: bool = option(True, fixed=True)
    """Rotate a capture so that its upward direction becomes +z. A capture is centered and scaled in any case."""
    # beyond these limits no part of a capture is inside its box, or all of it is in one cell
    scene_scale: float = option(1.0, at_least=1e-3, at_most=1e3, cure="1 is usual", fixed=True)
    """Enlarge a capture by this factor inside its box. Objects outside of the box are less sharp."""
    # a field cannot learn the background, so it cannot collapse to a blank picture
    background: Literal["white", "black", "random"] = option("random", fixed=True)
    """Background color behind transparent pixels, in training and evaluation. random: another color for each ray in
    training, and white in evaluation."""


@dataclass(frozen=True)
class ModelOptions(CommonOptions):
    """The model. Some options count only with one kind of --field."""

    field: str = option("hashgrid", fixed=True)
    """hashgrid: a table of features and small fused networks (instant-ngp). frequency: the two networks of the NeRF
    paper. MODULE:CLASS: a model of your own, for example examples.voxel_grid:VoxelGrid."""
    field_options: str = option("", fixed=True)
    """Options of a model of your own: NAME=VALUE,NAME=VALUE."""


@dataclass(frozen=True)
class OptimizerOptions:
    """Adam and its learning rate."""

    # twice instant-ngp's: 0.9 dB more after 300 steps on Lego
    lr: float = option(2e-2, above=0)
    """Initial learning rate."""
    lr_decay: float = option(0.1, above=0, at_most=1)
    """Factor on the learning rate over --lr-decay-steps. The decay is exponential."""
    lr_decay_steps: int | None = option(None, at_least=1)
    """Number of steps of one --lr-decay. None: the whole run, by steps or seconds, whichever ends it."""
    warmup_steps: int = option(50, at_least=0)  # Adam's second moments are noise before
    """Number of steps in which the learning rate rises from near 0."""
    # 30 times the norm of a healthy step (0.01 to 0.03), so only outliers are clipped
    clip_norm: float = option(1.0, at_least=0)
    """Largest norm of the gradient of a step, over all parameters that learn. A larger gradient is scaled down to it.
    0: no clipping. The hash grid is never clipped, because each step updates other entries of its table."""
    # instant-ngp's
    ema_decay: float = option(0.95, at_least=0, below=1, fixed=True)
    """Decay of the exponential moving average of the weights. Pictures are made from the averaged weights. 0: no
    average. A hash grid always has one."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Evaluation and checkpoints."""

    eval_every_seconds: float | None = option(25.0, above=0)
    """Training seconds between evaluations. There is always one at the end. None: only --report-every counts."""
    report_every: int = option(50, at_least=1)
    """Number of epochs between evaluations, in addition to those by time."""
    steps_per_epoch: int = option(500, at_least=1)
    """Number of steps of an epoch. An epoch is only a way to count: each batch is drawn from all pixels."""
    eval_views: int = option(4, at_least=1, fixed=True)
    """Number of test views to evaluate, evenly spaced. nerf-metal eval measures all of them."""
    checkpoint_every_seconds: float = option(120.0, above=0)  # what a crash may cost
    """Training seconds between checkpoints. Every evaluation writes one too."""
    keep_checkpoints: int = option(2, at_least=1)
    """Number of newest checkpoints to keep. The best one stays too."""


@dataclass(frozen=True)
class WatchdogOptions:
    """Recovery from the faults of a run. Every fault is printed and recorded in any case."""

    watchdog: str = option("rollback")
    """warn: continue. rollback: return to the last good checkpoint with a lower learning rate, and stop after
    --max-rollbacks. stop: end the run with a report. A single fault can have another policy, for example
    rollback,blank-plateau=stop."""
    max_rollbacks: int = option(3, at_least=0)
    """Number of rollbacks after which the run is stopped."""
    # three of them come close to the tenth that a decay ends at
    rollback_lr: float = option(0.5, above=0, at_most=1, cure="it is the factor on the learning rate")
    """Factor on the learning rate from each rollback on."""
    collapse_db: float = option(3.0, above=0)  # twice the error: no healthy run of ours has fallen by half of it
    """A fall of the PSNR below its best by this many dB counts as a collapse."""
    plateau_steps: int = option(1000, at_least=1)  # healthy runs of every preset beat a blank picture within 100
    """This many steps without being better than a blank picture count as a plateau."""


@dataclass(frozen=True)
class TrainConfig(
    WatchdogOptions,
    EvaluationOptions,
    OptimizerOptions,
    FrequencyOptions,
    HashGridOptions,
    ModelOptions,
    SceneOptions,
    DeviceOptions,
    RunOptions,
):
    """All options of a training run in one flat dataclass. ``TrainConfig()`` is the preset ``fast``.

    Raises:
        InputError: a value is out of its range; the message names the option.
    """

    def __post_init__(self) -> None:
        """Check every value."""
        if self.preset not in PRESETS:
            close = difflib.get_close_matches(self.preset, PRESETS, 1)
            cure = f"did you mean {close[0]}?" if close else "choose one of them"
            reject("preset", f"be one of {', '.join(PRESETS)}", self.preset, cure)
        check_limits(self)
        if self.field == "hashgrid":
            if self.ema_decay == 0:
                reject("ema_decay", "be more than 0 with a hash grid", 0, "0.95 is usual")
            taken_from(HashGridConfig, self)
        elif self.field == "frequency":
            taken_from(CoarseFineConfig, self)
        if self.step_limit is None and self.max_seconds is None:
            reject("steps", "be given if --epochs and --max-seconds are not", None, "give one of them")
        watchdog_policies(self.watchdog)

    @property
    def step_limit(self) -> int | None:
        """Number of steps after which the run ends: by ``steps`` or ``epochs``, whichever comes first."""
        limits = [self.steps, self.epochs and self.epochs * self.steps_per_epoch]
        return min((limit for limit in limits if limit), default=None)


WATCHDOG_FAULTS = (
    *("non-finite", "collapse", "blank-plateau", "dead-density", "saturated-density", "exploding-gradients"),
    *("optimizer-reset", "wrong-matmul", "checkpoint-not-saved"),
)
"""Names of the faults that the watchdog finds, see :mod:`nerf_metal.train.watchdog`."""
WATCHDOG_POLICIES = ("warn", "rollback", "stop")


def watchdog_policies(text: str) -> dict[str, str]:
    """Return the policy of every fault by name, from ``--watchdog``: ``POLICY`` or ``POLICY,FAULT=POLICY,...``.

    Raises:
        InputError: the text is not valid. The message names the wrong part.
    """
    first, *exceptions = (part.strip() for part in text.split(","))
    chosen = dict.fromkeys(WATCHDOG_FAULTS, first)
    for part in exceptions:
        name, _, policy = part.partition("=")
        if name not in chosen:
            cure = "correct the name"
            reject("watchdog", f"have exceptions FAULT=POLICY of {', '.join(WATCHDOG_FAULTS)}", part, cure)
        chosen[name] = policy
    for policy in chosen.values():
        if policy not in WATCHDOG_POLICIES:
            cure = "give one, and exceptions after it: rollback,blank-plateau=stop"
            reject("watchdog", f"be one of {', '.join(WATCHDOG_POLICIES)}", policy or text, cure)
    return chosen


GROUPS: Mapping[str, type] = {
    "run": RunOptions,
    "device": DeviceOptions,
    "scene": SceneOptions,
    "model": ModelOptions,
    "hashgrid": HashGridOptions,
    "frequency": FrequencyOptions,
    "optimizer": OptimizerOptions,
    "evaluation": EvaluationOptions,
    "watchdog": WatchdogOptions,
}
"""The groups of options, in the order of the help."""

KEPT = named(TrainConfig, "kept")
"""Options that belong to the run and are stored in ``config.json``; the others are options of one call."""
FIXED_IN_A_RUN = named(TrainConfig, "fixed")
"""Options that a resumed run cannot change, because its results could not be compared any more."""
OLD_NAMES = old_names(TrainConfig)
"""Names of options in older versions, with the names that they have now."""


def preset_config(name: str) -> TrainConfig:
    """Return the options of a preset.

    Raises:
        InputError: there is no such preset.
    """
    return TrainConfig(**{**PRESETS.get(name, {}), "preset": name})


def to_json(config: TrainConfig) -> dict[str, Any]:
    """Return the options that belong to the run, as JSON holds them."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name in KEPT}


def from_json(values: Mapping[str, Any], where: str) -> TrainConfig:
    """Return the options from the JSON of :func:`to_json`, or from the JSON of an older version.

    Args:
        values: values of the options by name.
        where: path of the file, for error messages.

    Raises:
        InputError: an option is unknown, or a value is out of its range.
    """
    values = {OLD_NAMES.get(name, name): value for name, value in values.items()}
    unknown = sorted(set(values) - {field.name for field in dataclasses.fields(TrainConfig)})
    if unknown:
        raise InputError(
            f"[train] {where} must hold options that this version knows, got {', '.join(unknown)}; "
            "use the version that wrote the file"
        )
    return TrainConfig(**values)
