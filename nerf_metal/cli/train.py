"""``nerf-metal train``: train a NeRF; ``python -m nerf_metal.train`` is the same."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nerf_metal.cli.arguments import given, parse
from nerf_metal.train import options
from nerf_metal.util.errors import InputError

if TYPE_CHECKING:
    from nerf_metal.data.scene import Scene
    from nerf_metal.train.observer import Observer
    from nerf_metal.train.run_folder import RunFolder
    from nerf_metal.viewer.training import TrainingViewer

VIEW_WIDTH = 512
"""Most pixels in a row of the page's picture at first: the page shares the machine with the training."""


def run(args: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0; 1 if the watchdog stopped the run; 128 + the number of the signal that ended the run: 130 for Ctrl-C, 141 if
        the reader of its output has left. A run that a signal ended has saved a checkpoint.
    """
    resumed = given(args, "--resume")
    if resumed is None:
        config = parse(args, options.preset_config(given(args, "--preset") or "fast"))
    else:
        from nerf_metal.train.run_folder import RunFolder

        folder, before = RunFolder.open(resumed, "train --resume")
        config = parse(args, before)
        _check_same_run(before, config)

    # From here on torch is needed: help and bad options came first.
    from nerf_metal.models.registry import model_config
    from nerf_metal.report import write_report
    from nerf_metal.train.checkpoint import find_checkpoint
    from nerf_metal.train.devices import check_backend, pick_device
    from nerf_metal.train.errors import TrainingStoppedError, folder_errors
    from nerf_metal.train.interrupt import StopRequest
    from nerf_metal.train.loop import train
    from nerf_metal.train.run_folder import RunFolder, check_out
    from nerf_metal.train.scenes import open_scene
    from nerf_metal.train.tensorboard_log import open_log
    from nerf_metal.util.extras import require
    from nerf_metal.util.text import clock

    if config.view:
        require("viser", extra="view", command="train")
    if config.log == "tensorboard":
        require("tensorboard", extra="tensorboard", command="train")
    device = pick_device(config.device)
    check_backend(config.backend, device)
    model_config(config.field, config, config.field_options)  # before the seconds that loading takes
    if resumed is None and config.out:
        check_out(Path(config.out), config.overwrite)  # before the seconds that loading takes
    say = (lambda line: None) if config.quiet else (lambda line: print(line, flush=True))
    if config.data is None:
        say("making the built-in scene ...")
    scene = open_scene(config)
    if config.data is not None:  # a run is looked at from other folders too
        config = dataclasses.replace(config, data=str(Path(config.data).resolve()))
    if resumed is None:
        folder = RunFolder.create(config, scene.name)
    for note in scene.notes:
        say(f"note: {note}")
    size = scene.splits["train"].camera(0)
    views = ", ".join(f"{len(split.names)} {name}" for name, split in scene.splits.items())
    say(f"{scene.name}: {views} views of {size.width} x {size.height}; preset {config.preset} on {device}")
    say(f"run folder: {folder.path}")

    with contextlib.ExitStack() as stack:
        observers: list[Observer] = []
        if config.log != "none":  # to find the checkpoint means to read all of it
            done = 0 if resumed is None else find_checkpoint(folder.checkpoints).step
            log = open_log(config, folder, done)
            if log is not None:
                observers.append(log)
                stack.callback(log.close)
        viewer = _open_viewer(config, scene, folder, say) if config.view else None
        if viewer is not None:
            observers.append(viewer)
            stack.callback(viewer.close)
        stop = stack.enter_context(StopRequest())
        try:
            result = train(config, scene, folder, device, resume=resumed is not None, stop=stop, observers=observers)
            with folder_errors(folder):
                write_report(folder)
        except TrainingStoppedError as error:  # neither bad input nor a bug
            with contextlib.suppress(OSError):  # why it stopped matters more
                write_report(folder)
            _print_end(folder)
            print(f"error: {error}", file=sys.stderr)
            return 1
        _print_end(folder)
        code = stop.exit_code
        if stop():
            print(
                f"stopped at step {result.step} ({clock(result.train_seconds)} of training), checkpoint saved; "
                f"go on with: nerf-metal train --resume {folder.path}",
                flush=True,
            )
        elif viewer is not None:
            print(f"the page stays at {viewer.viewer.address} (Ctrl-C ends)", flush=True)
            viewer.stay(stop)
    return code


def _open_viewer(
    config: options.TrainConfig, scene: Scene, folder: RunFolder, say: Callable[[str], None]
) -> TrainingViewer:
    """Open the page that shows the run while it trains."""
    from nerf_metal.viewer.training import TrainingViewer
    from nerf_metal.viewer.viewer import Viewer

    viewer = Viewer(
        scene,
        scene.aabb,
        folder.path,
        background=config.background,
        width=VIEW_WIDTH,
        host=config.view_host,
        port=config.view_port,
        command="train",
    )
    for note in viewer.notes():
        print(f"note: {note}", file=sys.stderr)
    say(f"open {viewer.address} to look on")
    return TrainingViewer(viewer)


def _print_end(folder: RunFolder) -> None:
    """Print the verdict on the run, its scores and its files."""
    from nerf_metal.report import final_rows, format_table, read_report
    from nerf_metal.util.text import wrap

    told = read_report(folder)
    print("\n".join(wrap(told.verdict)))
    print(format_table(final_rows(folder, told.record)), flush=True)


def _check_same_run(before: options.TrainConfig, now: options.TrainConfig) -> None:
    for name in options.FIXED_IN_A_RUN:
        had, got = getattr(before, name), getattr(now, name)
        if name == "data" and had is not None and not Path(had).exists():
            continue  # the photographs were moved
        if had != got:
            raise InputError(
                f"[train --resume] --{name.replace('_', '-')} must be {had} as in the run, got {got}; "
                "leave it out, or start a new run"
            )
