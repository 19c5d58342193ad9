"""What a run is at a step: the part of it that checkpoints hold, and that a rollback puts back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from nerf_metal.data.scene import Scene
from nerf_metal.models import build_method
from nerf_metal.train.checkpoint import Checkpoint, find_checkpoint, load_optimizer, load_weights, save_checkpoint
from nerf_metal.train.health import SecondMoments
from nerf_metal.train.observer import Observer
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.train.statistics import Log, Watch
from nerf_metal.train.watchdog import Watchdog
from nerf_metal.util.errors import InputError
from nerf_metal.util.machine import machine


def part_done(config: TrainConfig, step: int, train_seconds: float) -> float:
    """How much of the run is done, in [0, 1]: by steps or by seconds, whichever is further."""
    by_steps = step / config.step_limit if config.step_limit else 0.0
    by_seconds = train_seconds / config.max_seconds if config.max_seconds else 0.0
    return min(1.0, max(by_steps, by_seconds))


class RunState:
    """A run on its way.

    Attributes:
        method: what learns.
        optimizer: of its weights.
        moments: whether its state was lost.
        step: training steps done.
        watch: seconds of training done; they never go back.
        rollbacks: done by the watchdog.
        lr_scale: factor on the learning rate that they have led to.
        rejected: names of checkpoints that it went back to, and copies of them: where the run fails again before there
            is a newer one, an older one is taken.
        watchdog: with what it remembers.
        log: of the steps since the last line.
        notes: about the checkpoint that was loaded.

    Args:
        config: the options.
        scene: with a train split.
        folder: of the run.
        device: where to train.
        resume: go on from the folder's last checkpoint.
        observers: told of every line of ``metrics.jsonl``.

    Raises:
        InputError: the run cannot be resumed, or ``max_memory`` is too small.
    """

    def __init__(
        self,
        config: TrainConfig,
        scene: Scene,
        folder: RunFolder,
        device: torch.device,
        *,
        resume: bool,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Begin a run, or load it, and write its options into the folder."""
        if config.cascades is None:
            config = dataclasses.replace(config, cascades=scene.cascades)
        self.config, self.scene, self.folder, self.observers = config, scene, folder, observers
        self.method = build_method(config, scene.aabb, scene.near, scene.far, len(scene.splits["train"]))
        self.step, self.rollbacks, self.lr_scale = 0, 0, 1.0
        self.watchdog = Watchdog(
            collapse_db=config.collapse_db, plateau_steps=config.plateau_steps, warmup_steps=config.warmup_steps
        )
        self.rejected: list[str] = []
        self.log = Log(device)
        self.notes: tuple[str, ...] = ()
        checkpoint = find_checkpoint(folder.checkpoints) if resume else None
        if checkpoint is not None:
            _check_unfinished(config, checkpoint)
            load_weights(checkpoint, self.method.module)
        self.watch = Watch(checkpoint.train_seconds if checkpoint else 0.0)
        if checkpoint is None:
            with self.watch:
                self.method.measure(scene.splits["train"])
        self.method.to(device)
        image_bytes = sum(split.image_bytes for split in scene.splits.values())
        self.optimizer = self.method.prepare(scene.splits["train"], image_bytes)
        self.moments = SecondMoments(self.optimizer)
        if checkpoint is not None:
            self._restore_rest(checkpoint)
            self.rollbacks, self.lr_scale = checkpoint.rollbacks, float(checkpoint.state.get("lr_scale", 1.0))
            self.rejected = list(checkpoint.state.get("rejected", ()))
            self.notes = checkpoint.notes
            # Last: a resume that is refused leaves the run as it was.
            self.watch.seconds = max(self.watch.seconds, folder.cut_metrics(checkpoint.train_seconds))
        folder.write_config(
            config,
            scene.name,
            notes=scene.notes,
            device=str(device),
            machine=machine(),
            aabb=scene.aabb.tolist(),
            capture_to_scene=scene.capture_to_scene.tolist(),
        )

    @property
    def done(self) -> float:
        """How much of the run is done, in [0, 1]."""
        return part_done(self.config, self.step, self.watch.seconds)

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return self.step // self.config.steps_per_epoch

    def append(self, event: str, **values: object) -> None:
        """Add a line to ``metrics.jsonl``.

        Raises:
            OSError: it cannot be written.
        """
        seconds = round(self.watch.seconds, 3)
        line = {"step": self.step, "epoch": self.epoch, "train_seconds": seconds, **values}
        self.folder.append_metrics(event=event, **line)
        for observer in self.observers:
            observer.line(event, line)

    def save(self, psnr: float | None, *, good: bool | None = None) -> Path:
        """Write a checkpoint and return its path; ``psnr`` is that of an evaluation at this step, and the watchdog says
        whether it is ``good`` unless somebody knows.

        Raises:
            OSError: it cannot be written; those before are as they were.
        """
        return save_checkpoint(
            self.folder.checkpoints,
            self.method.module,
            self.optimizer,
            self.config,
            step=self.step,
            train_seconds=self.watch.seconds,
            near=self.scene.near,
            far=self.scene.far,
            rollbacks=self.rollbacks,
            psnr=psnr,
            good=(self.step == 0 or self.watchdog.good) if good is None else good,
            state={"lr_scale": self.lr_scale, "rejected": self.rejected, "watchdog": self.watchdog.state()},
            keep=self.config.keep_checkpoints,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Weights, optimizer, schedule, what is drawn and what the watchdog remembers, as in a checkpoint of this
        run."""
        load_weights(checkpoint, self.method.module)
        self._restore_rest(checkpoint)
        self.optimizer.zero_grad(set_to_none=False)  # a table's gradient keeps its memory
        self.log.clear()

    def _restore_rest(self, checkpoint: Checkpoint) -> None:
        load_optimizer(checkpoint, self.method.module, self.optimizer)
        self.moments.forget()
        self.step = checkpoint.step  # learning rate, batches and jitter follow from it
        self.watchdog.load(checkpoint.state.get("watchdog", {}))


def _check_unfinished(config: TrainConfig, checkpoint: Checkpoint) -> None:
    if part_done(config, checkpoint.step, checkpoint.train_seconds) >= 1.0:
        raise InputError(
            f"[train] --resume must have something left to do, got a run of {checkpoint.step} steps and "
            f"{checkpoint.train_seconds:.0f} s; give a greater --steps, --epochs or --max-seconds"
        )
