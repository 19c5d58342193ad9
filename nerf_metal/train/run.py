"""The state of a run at a step: the state that checkpoints hold and that a rollback restores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from nerf_metal.data.scene import Scene
from nerf_metal.models import Model, Space, build_model
from nerf_metal.models.registry import model_config
from nerf_metal.train.average import AveragedModel
from nerf_metal.train.checkpoint import Checkpoint, find_checkpoint, load_optimizer, load_weights, save_checkpoint
from nerf_metal.train.health import SecondMoments, gradient_norms
from nerf_metal.train.lines import Line, TrainLine
from nerf_metal.train.observer import Observer
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.train.schedule import Schedule, learning_rate, part_done
from nerf_metal.train.statistics import Statistics, Stopwatch
from nerf_metal.train.watchdog import Watchdog
from nerf_metal.util.errors import InputError
from nerf_metal.util.machine import machine


def new_model(config: TrainConfig, scene: Scene) -> Model:
    """Make the model that the options of a run name, for a scene, on the CPU.

    Raises:
        InputError: the options name no model, or the model does not accept them.
    """
    space = Space(scene.aabb, scene.near, scene.far, config.cascades or scene.cascades, len(scene.splits["train"]))
    return build_model(config.field, model_config(config.field, config, config.field_options), space, config.seed)


class TrainingRun:
    """A training run with its model, optimizer, batches, statistics and watchdog.

    Attributes:
        model: model that learns.
        average: averaged weights of the model.
        optimizer: optimizer of the weights.
        groups: parameters that learn, by layer group.
        grad_norms: norm of each group's gradient before clipping, ``[G]``, from the last step that computed it.
        grad_norm: norm of the whole gradient before clipping; None if the last step did not compute it.
        batches: source of the batches of rays.
        statistics: sums over the steps since the last line.
        moments: sample of Adam's second moments that shows whether the optimizer's state was lost.
        step: number of training steps done.
        stopwatch: stopwatch with the seconds of training done. A rollback does not reduce them.
        schedule: schedule of lines, evaluations and checkpoints.
        rollbacks: number of rollbacks by the watchdog.
        lr: learning rate of the last step.
        lr_scale: product of the factors that the rollbacks put on the learning rate.
        rejected: file names of checkpoints that a rollback has returned to, and of copies of them. If the run fails
            again before there is a newer checkpoint, it returns to an older one.
        watchdog: watchdog of the run.
        line: last line of training; None before the first.
        self_test: result of the test of the device's gradients; None if the model does not test them.
        notes: notes about the checkpoint that was loaded.

    Args:
        config: options of the run.
        scene: scene with a train split.
        folder: run folder.
        device: device to train on.
        resume: continue from the last checkpoint of the folder.
        observers: observers that receive every line of ``metrics.jsonl``.

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
        resume: bool = False,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Start or load a run, and write its options into the folder."""
        if config.cascades is None:
            config = dataclasses.replace(config, cascades=scene.cascades)
        self.config, self.scene, self.folder, self.observers = config, scene, folder, observers
        self.step, self.rollbacks, self.lr, self.lr_scale = 0, 0, config.lr, 1.0
        self.rejected: list[str] = []
        self.line: TrainLine | None = None
        train = scene.splits["train"]
        checkpoint = find_checkpoint(folder.checkpoints) if resume else None
        if checkpoint is not None:
            _check_unfinished(config, checkpoint)
        self.stopwatch = Stopwatch(checkpoint.train_seconds if checkpoint else 0.0)

        self.model = new_model(config, scene)
        if checkpoint is None:
            with self.stopwatch:
                self.model.fit_to(train)
        self.model.to(device)
        self.self_test = self.model.self_test()
        self.average = AveragedModel(self.model, config.ema_decay)
        if checkpoint is not None:
            load_weights(checkpoint, self.model, self.average.weights)
        held_bytes = sum(split.image_bytes for split in scene.splits.values())
        held_bytes += sum(weight.nbytes for weight in self.average.weights.values())
        for model in {self.model, self.average.model}:
            model.limit_memory(config.max_memory, held_bytes, training=model is self.model)
        self.groups = self.model.layer_groups()
        self.grad_norms = torch.zeros(len(self.groups), device=device)
        self.grad_norm: torch.Tensor | None = None
        self.optimizer = self.model.optimizer(config.lr)
        self.batches = self.model.batches(train, background=config.background, seed=config.seed, device=device)

        self.statistics = Statistics(device)
        self.moments = SecondMoments(self.optimizer)
        self.watchdog = Watchdog(
            collapse_db=config.collapse_db, plateau_steps=config.plateau_steps, warmup_steps=config.warmup_steps
        )
        self.notes: tuple[str, ...] = ()
        if checkpoint is not None:
            self._restore_rest(checkpoint)
            self.rollbacks, self.lr_scale = checkpoint.rollbacks, float(checkpoint.state.get("lr_scale", 1.0))
            self.rejected = list(checkpoint.state.get("rejected", ()))
            self.notes = checkpoint.notes
            # This comes last, so that a resume that is refused does not change the run.
            self.stopwatch.seconds = max(self.stopwatch.seconds, folder.cut_metrics(checkpoint.train_seconds))
        self.schedule = Schedule(config, self.stopwatch.seconds)
        self._line_seconds = self.stopwatch.seconds
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
        """Fraction of the run that is done, in [0, 1]."""
        return part_done(self.config, self.step, self.stopwatch.seconds)

    @property
    def epoch(self) -> int:
        """Number of whole epochs done."""
        return self.step // self.config.steps_per_epoch

    def set_learning_rate(self) -> None:
        """Set the learning rate of the next step in every group of the optimizer, times the group's ``rate``."""
        self.lr = learning_rate(self.config, self.step, self.done) * self.lr_scale
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group.get("rate", 1.0)

    def clear_gradients(self) -> None:
        """Clear the gradients of the step before, unless the optimizer has cleared them in its own pass."""
        self.grad_norm = None
        if not getattr(self.optimizer, "clears_gradients", False):
            self.optimizer.zero_grad(set_to_none=True)

    def clip_gradients(self, *, measure: bool) -> None:
        """Scale the gradient of everything that learns down to a norm of at most ``clip_norm``.

        Args:
            measure: compute the norms also for a model that is not clipped.
        """
        if not (self.model.clips_gradients or measure):
            return
        self.grad_norms = gradient_norms(self.groups)
        self.grad_norm = self.grad_norms.norm()
        if self.model.clips_gradients and self.config.clip_norm > 0:
            learning = [parameter for group in self.groups.values() for parameter in group]
            torch.nn.utils.clip_grads_with_norm_(learning, self.config.clip_norm, self.grad_norm)

    def read_line(self) -> TrainLine:
        """Return the statistics of the steps since the last line.

        The call waits for the device, so it belongs into the time that the stopwatch measures.
        """
        line = self.statistics.read()
        return dataclasses.replace(line, lr=self.lr, lost_moments=self.moments.lost(line.over_steps))

    def stamp(self, line: TrainLine) -> TrainLine:
        """Return the line with its step and its speeds, and keep it. Call this when the stopwatch stands still."""
        seconds = max(self.stopwatch.seconds - self._line_seconds, 1e-9)
        self._line_seconds = self.stopwatch.seconds
        rays, samples = line.rays / seconds, line.samples / seconds
        self.line = dataclasses.replace(line, step=self.step, rays_per_second=rays, samples_per_second=samples)
        return self.line

    def record(self, line: Line) -> None:
        """Add a line to ``metrics.jsonl``, and give it to the observers.

        Raises:
            OSError: the line cannot be written.
        """
        line = dataclasses.replace(line, step=self.step, epoch=self.epoch, train_seconds=self.stopwatch.seconds)
        values = line.to_json()
        self.folder.append_metrics(**values)
        event = values.pop("event")
        for observer in self.observers:
            observer.line(event, values)

    def save(self, psnr: float | None, *, good: bool | None = None) -> Path:
        """Write a checkpoint and return its path.

        Args:
            psnr: PSNR of the evaluation at this step, dB; None without an evaluation.
            good: whether a rollback may return to the checkpoint. None: let the watchdog decide.

        Raises:
            OSError: the checkpoint cannot be written. The earlier checkpoints are unchanged.
        """
        return save_checkpoint(
            self.folder.checkpoints,
            self.model,
            self.optimizer,
            self.config,
            average=self.average.weights,
            step=self.step,
            train_seconds=self.stopwatch.seconds,
            near=self.scene.near,
            far=self.scene.far,
            rollbacks=self.rollbacks,
            psnr=psnr,
            good=(self.step == 0 or self.watchdog.good) if good is None else good,
            state={"lr_scale": self.lr_scale, "rejected": self.rejected, "watchdog": self.watchdog.state()},
            keep=self.config.keep_checkpoints,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore weights, optimizer, step and the watchdog's state from a checkpoint of this run."""
        load_weights(checkpoint, self.model, self.average.weights)
        self._restore_rest(checkpoint)
        self.optimizer.zero_grad(set_to_none=False)  # the memory of the table's gradient stays in use
        self.statistics.clear()

    def _restore_rest(self, checkpoint: Checkpoint) -> None:
        load_optimizer(checkpoint, self.model, self.optimizer)
        self.moments.forget()
        self.step = checkpoint.step  # learning rate, batches and jitter follow from it
        self.watchdog.load(checkpoint.state.get("watchdog", {}))


def _check_unfinished(config: TrainConfig, checkpoint: Checkpoint) -> None:
    if part_done(config, checkpoint.step, checkpoint.train_seconds) >= 1.0:
        raise InputError(
            f"[train] --resume must name a run that is not finished, got a run of {checkpoint.step} steps and "
            f"{checkpoint.train_seconds:.0f} s; give a larger --steps, --epochs or --max-seconds"
        )
