"""Training, from top to bottom.

Time: ``train_seconds`` runs while steps run, and stands still for evaluation, pictures and checkpoints.
Chance: what a step draws depends on the seed and the step alone, so a resumed run draws what an unbroken one
    would.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from nerf_metal import memory, metrics, report
from nerf_metal.batches import RayBatches, step_seed
from nerf_metal.checkpoint import find_checkpoint, load_optimizer, load_weights, save_checkpoint
from nerf_metal.config import TrainConfig
from nerf_metal.data.scene import Scene
from nerf_metal.errors import InputError
from nerf_metal.evaluate import Evaluation, evaluate, spread
from nerf_metal.fields import CoarseFineField
from nerf_metal.hull import tight_box
from nerf_metal.interrupt import StopRequest
from nerf_metal.losses import photometric_loss
from nerf_metal.progress import Progress, clock
from nerf_metal.render import render_rays
from nerf_metal.run_folder import RunFolder
from nerf_metal.samplers import Sampler

LOG_EVERY_STEPS = 20
"""Steps of a line in ``metrics.jsonl``: reading the loss waits for the device, so not every step."""
PICTURE_VIEWS = 3
"""Views in a quick render: enough to see all sides, few enough to see at a glance."""


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: steps done since the run's start.
        train_seconds: seconds of training since the run's start.
        evaluation: the last one; None where the run was interrupted.
        model: the trained networks.
    """

    step: int
    train_seconds: float
    evaluation: Evaluation | None
    model: CoarseFineField


def build_model(config: TrainConfig, aabb: torch.Tensor) -> CoarseFineField:
    """The networks that the options describe, with weights drawn from ``config.seed``, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return CoarseFineField(
            aabb,
            hidden_width=config.hidden_width,
            depth=config.depth,
            skip=config.skip,
            position_levels=config.position_levels,
            direction_levels=config.direction_levels,
            density_activation=config.density_activation,
        )


def build_sampler(config: TrainConfig, near: float, far: float) -> Sampler:
    """The sampling that the options describe, for a scene between ``near`` and ``far``."""
    return Sampler(config.num_samples, config.num_importance, near, far, config.backend)


def part_done(config: TrainConfig, step: int, train_seconds: float) -> float:
    """How much of the run is done, in [0, 1]: by steps or by seconds, whichever is further."""
    by_steps = step / config.steps if config.steps else 0.0
    by_seconds = train_seconds / config.max_seconds if config.max_seconds else 0.0
    return min(1.0, max(by_steps, by_seconds))


def learning_rate(config: TrainConfig, step: int, done: float) -> float:
    """Exponential decay (Mildenhall et al. 2020, section 5.3) behind a linear warm-up.

    ``lr * decay^x`` where ``x`` is ``step / lr_decay_steps``, or ``done`` where the decay follows the whole
    run.
    """
    x = step / config.lr_decay_steps if config.lr_decay_steps else done
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return config.lr * warm * config.lr_decay**x


def train(
    config: TrainConfig,
    scene: Scene,
    folder: RunFolder,
    device: torch.device,
    *,
    resume: bool = False,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Train on a scene and fill the run folder.

    Args:
        config: the options.
        scene: with a train and a test split.
        folder: of the run, as :meth:`RunFolder.create` or :meth:`RunFolder.open` gives it.
        device: where to train.
        resume: go on from the folder's last checkpoint.
        stop: asked after each step; a stopped run writes a checkpoint and is not evaluated.

    Raises:
        InputError: the run cannot be resumed, or ``max_memory`` is too small.
        TrainingDivergedError: the loss is not finite any more.
    """
    stop = stop or StopRequest()
    train_split, test_split = scene.splits["train"], scene.splits["test"]

    # The model, its box and its optimizer; or those of the checkpoint.
    model = build_model(config, tight_box(train_split, scene.aabb) if config.tight_box else scene.aabb)
    sampler = build_sampler(config, scene.near, scene.far)
    step, seconds_before = 0, 0.0
    checkpoint = find_checkpoint(folder.checkpoints) if resume else None
    if checkpoint is not None:
        load_weights(checkpoint, model)
        step, seconds_before = checkpoint.step, checkpoint.train_seconds
        if part_done(config, step, seconds_before) >= 1.0:
            raise InputError(
                f"[train] --resume must have something left to do, got a run of {step} steps and "
                f"{seconds_before:.0f} s; give a greater --steps or --max-seconds"
            )
        folder.cut_metrics(step)
        folder.write_config(config, scene.name)
    aabb = model.aabb.clone()
    model = model.to(device)
    # eps as in instant-ngp (Müller et al. 2022): of a mean over rays, gradients are small numbers.
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, eps=1e-15, fused=True)
    if checkpoint is not None:
        load_optimizer(checkpoint, model, optimizer)

    # How much fits at once.
    fixed = memory.fixed_bytes(model, sum(split.images.numel() for split in scene.splits.values()))
    step_rays = memory.rays_within(config.max_memory, fixed, memory.training_bytes_per_ray(model, sampler))
    chunk_rays = memory.chunk_rays(config.max_memory, fixed, model, sampler)

    batches = RayBatches(
        train_split,
        aabb,
        sampler,
        rays=config.batch_rays,
        background=config.background,
        seed=config.seed,
        device=device,
    )
    progress = Progress(quiet=config.quiet, done=part_done(config, step, seconds_before))
    watch = _Watch(seconds_before)
    logged_step, logged_seconds = step, seconds_before
    next_eval = seconds_before + config.eval_every_seconds
    evaluated_step = -1
    evaluation: Evaluation | None = None
    loss_sum = torch.zeros((), device=device)

    def check_finite(loss: float) -> None:
        """Never carry on, measure or save with a network that is lost."""
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"[train] the loss must be finite, got {loss} before step {step}; resume from the last "
                f"checkpoint in {folder.checkpoints} with a smaller --lr, or set --clip-norm"
            )

    def measure() -> Evaluation | None:
        """Evaluate, record, draw and save; the watch stands still."""
        with watch:
            check_finite(float(loss_sum))  # waits for the device: what is still running is training
        views = spread(len(test_split.names), config.eval_views)
        result = evaluate(
            model,
            sampler,
            test_split,
            views,
            background=config.background,
            rays_per_chunk=chunk_rays,
            stop=stop,
        )
        if result is None:
            return None
        epoch = step // config.steps_per_epoch
        folder.append_metrics(
            event="eval",
            step=step,
            epoch=epoch,
            train_seconds=round(watch.seconds, 3),
            split=test_split.name,
            views=len(views),
            mse=result.mse,
            psnr=result.psnr,
            ssim=result.ssim,
            blank_psnr=result.blank_psnr,
        )
        folder.save_quick_render(epoch, [(view.prediction, view.truth) for view in result.views[:PICTURE_VIEWS]])
        save()
        progress.say(f"eval  step {step}  {clock(watch.seconds)}  {result.line()}")
        return result

    def save() -> None:
        check_finite(float(loss_sum))
        save_checkpoint(
            folder.checkpoints,
            model,
            optimizer,
            config,
            step=step,
            train_seconds=watch.seconds,
            near=scene.near,
            far=scene.far,
        )

    try:
        while (done := part_done(config, step, watch.seconds)) < 1.0 and not stop():
            with watch:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config, step, done)
                batch = batches.draw(step)
                optimizer.zero_grad(set_to_none=True)
                # Parts of a batch, where it does not fit as a whole: their gradients add up to the batch's.
                for index, part in enumerate(batch.split(step_rays)):
                    rendered = render_rays(
                        model,
                        sampler,
                        part.rays_o,
                        part.rays_d,
                        background=part.background,
                        stratified=True,
                        seed=step_seed(config.seed, step, index),
                    )
                    loss = photometric_loss(rendered, part.truth) * (len(part.truth) / len(batch.truth))
                    loss.backward()
                    loss_sum += loss.detach()
                if config.clip_norm > 0:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
                optimizer.step()
                step += 1
                # Reading the sum waits for the device: inside the watch, so that its seconds are true ones.
                mean_loss = float(loss_sum) / (step - logged_step) if step % LOG_EVERY_STEPS == 0 else None

            if mean_loss is not None:
                check_finite(mean_loss)
                speed = (step - logged_step) * config.batch_rays / max(watch.seconds - logged_seconds, 1e-9)
                folder.append_metrics(
                    event="train",
                    step=step,
                    epoch=step // config.steps_per_epoch,
                    train_seconds=round(watch.seconds, 3),
                    loss=mean_loss,
                    lr=optimizer.param_groups[0]["lr"],
                    rays_per_second=round(speed, 1),
                )
                done = part_done(config, step, watch.seconds)
                progress.update(
                    done=done,
                    step=step,
                    loss=mean_loss,
                    psnr=metrics.psnr(mean_loss / 2.0),
                    rays_per_second=speed,
                    seconds_left=watch.seconds * (1.0 - done) / max(done, 1e-9),
                )
                logged_step, logged_seconds = step, watch.seconds
                loss_sum.zero_()
            if watch.seconds >= next_eval and part_done(config, step, watch.seconds) < 1.0:
                evaluation, evaluated_step = measure(), step
                next_eval = watch.seconds + config.eval_every_seconds

        if not stop() and evaluated_step != step:
            evaluation = measure()
        if stop():
            evaluation = None
            save()
    finally:
        progress.close()
    report.plot_losses(folder)
    report.write_summary(folder, config, scene.name, scene.notes, str(device))
    return TrainResult(step, watch.seconds, evaluation, model)


class _Watch:
    """Adds up the seconds spent inside its ``with`` blocks."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start
