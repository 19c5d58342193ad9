"""Ablation of the failed run: which of its suspects stops a NeRF from learning, one at a time, with several seeds.

    python -m benchmarks.ablation                       # all variants, three seeds: half an hour on two cores
    python -m benchmarks.ablation --data DIR            # on a scene of your own, such as Lego
    python -m benchmarks.ablation --variants control corrupted --seeds 5 --steps 3000
    python -m benchmarks.ablation --write docs          # and put table, plot and conclusion into docs/failure.md

Every run differs from the control only in what its variant names. The control is the preset ``stable`` made small, over
white and in the whole box like the failed run, with crops at the start instead of random backgrounds, and without
averaged weights. The result is a table of variants and seeds, a plot of the test PSNR over the steps, and the sentences
that the numbers support.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.ablation_report import Run, check_marks, plot, section, write_section
from benchmarks.corrupted_linear import corrupted_linear
from nerf_metal.data.background import composite_over
from nerf_metal.data.batches import RayBatch
from nerf_metal.data.scene import Scene
from nerf_metal.models import StepLoss
from nerf_metal.models.coarse_fine.model import CoarseFineModel
from nerf_metal.train.loop import train
from nerf_metal.train.options import TrainConfig, preset_config
from nerf_metal.train.recovery import Recovery, TrainingStoppedError
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.train.scenes import open_scene
from nerf_metal.util.atomic import write_json
from nerf_metal.util.errors import InputError
from nerf_metal.util.machine import machine
from nerf_metal.util.pictures import to_uint8

EVALUATIONS = 15
"""Number of evaluations of a run, evenly spaced: enough to see when quality is lost."""
RAYS, SAMPLES, IMPORTANCE = 128, 16, 24
"""Rays, coarse samples and fine samples of a step: 16 and 40 samples per ray, a fifth of the failed run's."""
CORRUPTED_ROWS = RAYS * SAMPLES
"""Number of rows from which a product is corrupted. The two passes of the failed run had 131 072 and 393 216 rows, and
32 767 were too many. The passes here have 2 048 and 5 120 rows, and both are corrupted too."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A run that differs from the control.

    Attributes:
        says: the difference in words.
        options: options that differ.
        corrupted_from: part of the run, in [0, 1), from which weight gradients are those of torch < 2.14 on MPS.
        cured: let the self-test of the trainer see the corruption and split its calls.
        mismatch: composite the training images over black and the test images over white.
    """

    says: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    corrupted_from: float | None = None
    cured: bool = False
    mismatch: bool = False


_LR = {"lr": 5e-4}
_CLIP = {"clip_norm": 0.0}
_LEVELS = {"position_bands": 10}
_RELU = {"density_activation": "relu"}
_CROP = {"precrop_steps": 0}
_WARMUP = {"warmup_steps": 0}
_ALL = {**_LR, **_CLIP, **_LEVELS, **_RELU, **_CROP, **_WARMUP}
VARIANTS = {
    "control": Variant("the repaired run: lr 1e-4 with warm-up, clipping, 8 levels, softplus, crops at the start"),
    "lr": Variant("learning rate 5e-4 instead of 1e-4", _LR),
    "clip": Variant("no clipping", _CLIP),
    "levels": Variant("10 encoding levels instead of 8", _LEVELS),
    "relu": Variant("ReLU density instead of softplus", _RELU),
    "precrop": Variant("no crops at the start", _CROP),
    "mismatch": Variant("trained over black, measured over white", mismatch=True),
    "corrupted": Variant("corrupted weight gradients", corrupted_from=0.0),
    "corrupted later": Variant("corrupted weight gradients from half of the run on", corrupted_from=0.5),
    "corrupted, cured": Variant("corrupted, with the self-test that cuts calls", corrupted_from=0.0, cured=True),
    "failed": Variant("the failed run: all of the above but mismatch and corruption, no warm-up", _ALL),
    "failed, corrupted": Variant("the failed run with corrupted weight gradients", _ALL, corrupted_from=0.0),
    "failed, corrupted later": Variant("the failed run, corrupted from half of it on", _ALL, corrupted_from=0.5),
}


def control(options: argparse.Namespace, seed: int) -> TrainConfig:
    """The repaired run at small scale. White behind the pixels as in the failed run, so that crops can matter; no
    average of the weights, which would hide what happens to them."""
    return dataclasses.replace(
        preset_config("stable"),
        data=options.data,
        downscale=options.downscale,
        steps=options.steps,
        epochs=None,
        seed=seed,
        background="white",
        tight_box=False,
        hidden_width=options.width,
        batch_rays=RAYS,
        num_samples=SAMPLES,
        num_importance=IMPORTANCE,
        warmup_steps=options.steps // 15,
        precrop_steps=options.steps // 15,
        lr_decay_steps=None,
        ema_decay=0.0,
        steps_per_epoch=max(1, options.steps // EVALUATIONS),
        report_every=1,
        eval_views=2,
        watchdog="warn",
        device="cpu",
        quiet=True,
    )


def over_black(scene: Scene) -> Scene:
    """Return the scene with opaque training images over black, as a faulty loader would give them."""
    split = scene.splits["train"]
    assert isinstance(split.images, torch.Tensor)
    rgb = composite_over(split.images.float() / 255.0, torch.zeros(3))
    images = torch.cat((torch.from_numpy(to_uint8(rgb)), torch.full_like(split.images[..., 3:], 255)), -1)
    return dataclasses.replace(scene, splits={**scene.splits, "train": dataclasses.replace(split, images=images)})


@contextlib.contextmanager
def corrupted(first_step: float) -> Iterator[None]:
    """Weight gradients are wrong from a step on: what lies behind the operands is left by the steps before, too."""
    loss_of = CoarseFineModel.loss

    def loss(self: CoarseFineModel, batch: RayBatch, step: int) -> StepLoss:
        memory.limit = CORRUPTED_ROWS if step >= first_step else sys.maxsize
        return loss_of(self, batch, step)

    with corrupted_linear(limit=CORRUPTED_ROWS) as memory, mock.patch.object(CoarseFineModel, "loss", loss):
        yield


def run(name: str, seed: int, options: argparse.Namespace) -> Run:
    """One run, in this process on one thread: its evaluations, and what the watchdog said."""
    torch.set_num_threads(1)
    variant = VARIANTS[name]
    config = dataclasses.replace(control(options, seed), **variant.options)
    scene = open_scene(config)
    if variant.mismatch:
        scene = over_black(scene)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        if variant.corrupted_from is not None:
            stack.enter_context(corrupted(options.steps * variant.corrupted_from))
            if not variant.cured:
                stack.enter_context(mock.patch.object(Recovery, "test_gradients"))
        folder = RunFolder.create(dataclasses.replace(config, out=f"{place}/run"), scene.name)
        with contextlib.suppress(TrainingStoppedError):  # the record says so
            train(config, scene, folder, torch.device("cpu"))
        lines = list(folder.read_metrics())
    evals = [line for line in lines if line["event"] == "eval"]
    return Run(
        variant=name,
        says=variant.says,
        seed=seed,
        steps=[line["step"] for line in evals],
        psnr=[line["psnr"] for line in evals],
        blank_psnr=evals[0]["blank_psnr"] if evals else None,
        faults=list(dict.fromkeys(line["name"] for line in lines if line["event"] == "watchdog")),
        seconds=time.perf_counter() - start,
    )


def run_all(options: argparse.Namespace) -> list[Run]:
    """Every variant with every seed, so many at once as there are processes."""
    jobs = [(name, seed) for seed in range(options.seeds) for name in options.variants]
    spawn = multiprocessing.get_context("spawn")
    runs = []
    with ProcessPoolExecutor(options.processes, mp_context=spawn) as pool:
        futures = [pool.submit(run, name, seed, options) for name, seed in jobs]
        for future in futures:
            one = future.result()
            last = f"{one.psnr[-1]:6.2f} dB" if one.psnr else "no evaluation"
            print(f"{one.variant:<20} seed {one.seed}  {last}  {one.outcome:<14} {one.seconds:4.0f} s", flush=True)
            runs.append(one)
    return runs


def main() -> int:
    """Run, print and write, as the arguments say; 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", help="folder of a NeRF-synthetic scene; left out, the package's own")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3, help="0 to N - 1")
    parser.add_argument("--steps", type=int, default=1200, help="of a run")
    parser.add_argument("--width", type=int, default=64, help="units of a layer, 256 and 384 in full size")
    parser.add_argument("--downscale", type=int, default=16, help="of the images: 50 x 50 pixels of 800 x 800")
    parser.add_argument("--processes", type=int, default=2, help="runs at once, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for ablation.json and ablation.png")
    parser.add_argument("--write", type=Path, help="folder of failure.md, whose section is replaced; with ablation.png")
    options = parser.parse_args()
    try:
        for name in ("seeds", "steps", "width", "downscale", "processes"):
            if getattr(options, name) < 1:
                raise InputError(
                    f"[ablation] --{name} must be at least 1, got {getattr(options, name)}; 3 seeds are usual"
                )
        if options.write:
            check_marks(options.write / "failure.md")
        options.out.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        runs = run_all(options)
        about = {
            "scene": options.data and Path(options.data).name,
            "size": 800 // options.downscale,
            "steps": options.steps,
            "width": options.width,
            "seeds": options.seeds,
            "minutes": round((time.perf_counter() - start) / 60, 1),
            "torch": torch.__version__,
            "system": platform.platform(),
            "machine": machine(),
        }
        write_json(options.out / "ablation.json", {"about": about, "runs": [dataclasses.asdict(one) for one in runs]})
        plot(runs, options.out / "ablation.png")
        print(section(runs, about))
        if options.write:
            plot(runs, options.write / "ablation.png")
            write_section(options.write / "failure.md", section(runs, about))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
