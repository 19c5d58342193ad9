"""PSNR over seconds: train a preset for some time, and plot its curve with those of other runs and trainers.

    python -m benchmarks.time_to_quality --data DIR --seconds 300
    python -m benchmarks.time_to_quality --data DIR --seconds 300 --device mps --label "M3, preset fast"
    python -m benchmarks.time_to_quality --plot curve.json other.json --nerfstudio nerfacto.json

It writes ``time_to_quality.json`` and ``.png`` into ``--out``: seconds of training, as the trainer counts them, and the
mean PSNR of test views. ``--nerfstudio`` reads the log of ``ns-train``: a JSON list of
``{"seconds": ..., "psnr": ...}``, or its ``events.out.tfevents`` file if the package tensorboard is installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nerf_metal.train.devices import pick_device
from nerf_metal.train.interrupt import StopRequest
from nerf_metal.train.loop import train
from nerf_metal.train.options import preset_config
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.train.scenes import open_scene
from nerf_metal.util.atomic import write_atomically, write_json
from nerf_metal.util.errors import InputError
from nerf_metal.util.machine import processor

BARS = (20.0, 25.0, 28.0, 30.0, 32.5, 34.0)
"""PSNR values in dB; the time to reach each is printed."""


@dataclass(frozen=True)
class Curve:
    """The curve of one run: its label, facts about the run and the machine, and the points ``seconds`` and ``psnr``."""

    label: str
    about: dict[str, Any]
    seconds: list[float]
    psnr: list[float]

    def reached(self, bar: float) -> float | None:
        """Return the seconds at which a PSNR was first reached, interpolated linearly, or None if it never was."""
        before = (0.0, float("-inf"))
        for second, psnr in zip(self.seconds, self.psnr, strict=True):
            if psnr >= bar:
                if before[1] == float("-inf"):
                    return second
                part = (bar - before[1]) / (psnr - before[1])
                return before[0] + part * (second - before[0])
            before = (second, psnr)
        return None


def run_preset(options: argparse.Namespace) -> Curve:
    """Train into a new run folder ``runs/SCENE-PRESET-TIME``, and return the curve of its evaluations."""
    config = dataclasses.replace(
        preset_config(options.preset),
        data=options.data,
        device=options.device,
        max_seconds=options.seconds,
        steps=None,
        eval_every_seconds=options.every,
        eval_views=options.views,
        seed=options.seed,
    )
    device = pick_device(config.device)
    scene = open_scene(config)
    folder = RunFolder.create(config, scene.name)
    with StopRequest() as stop:
        train(config, scene, folder, device, stop=stop)
    print(f"The run, its pictures and its checkpoint are in {folder.path}.")
    lines = [line for line in folder.read_metrics() if line["event"] == "eval"]
    size = scene.splits["test"].camera(0)
    about = {
        "scene": scene.name,
        "preset": options.preset,
        "device": str(device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "views": lines[0]["views"] if lines else 0,
        "size": [size.width, size.height],
        "blank_psnr": lines[0]["blank_psnr"] if lines else None,
    }
    label = options.label or f"nerf_metal {options.preset}, {device}"
    return Curve(label, about, [line["train_seconds"] for line in lines], [line["psnr"] for line in lines])


def read_curve(path: Path) -> Curve:
    """Read a curve that an earlier call wrote.

    Raises:
        InputError: the file is not a curve.
    """
    try:
        return Curve(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"[time_to_quality] {path} must be a time_to_quality.json, got {error}; write one with --data"
        ) from None


def read_nerfstudio(path: Path) -> Curve:
    """Read the log of nerfstudio as a curve.

    Raises:
        InputError: the file is not such a log, or tensorboard is needed and not installed.
    """
    if path.suffix == ".json":
        try:
            points = json.loads(path.read_text())
            return Curve("nerfstudio", {}, [p["seconds"] for p in points], [p["psnr"] for p in points])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"[time_to_quality] {path} must be a list of objects with seconds and psnr, got {error}; "
                "or give nerfstudio's events.out.tfevents file"
            ) from None
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore
    except ImportError:
        raise InputError(
            "[time_to_quality] --nerfstudio must be a .json unless the package tensorboard is there; "
            "pip install tensorboard, or give a list of seconds and psnr"
        ) from None
    events = EventAccumulator(str(path))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.lower().endswith("psnr") and "eval" in tag.lower()]
    if not tags:
        raise InputError(
            f"[time_to_quality] {path} must hold a scalar like 'Eval Images Metrics/psnr', "
            f"got {events.Tags()['scalars'][:8]}; train with --vis tensorboard"
        )
    scalars = events.Scalars(tags[0])
    first = min(event.wall_time for tag in events.Tags()["scalars"] for event in events.Scalars(tag))
    return Curve("nerfstudio", {}, [s.wall_time - first for s in scalars], [s.value for s in scalars])


def plot(curves: list[Curve], path: Path) -> None:
    """Plot PSNR over seconds on a logarithmic scale, with `BARS` as faint lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for curve in curves:
        axes.plot(curve.seconds, curve.psnr, "o-", ms=3, label=curve.label)
    for bar in BARS:
        axes.axhline(bar, color="0.85", lw=0.8, zorder=0)
    blank = next((c.about["blank_psnr"] for c in curves if c.about.get("blank_psnr")), None)
    if blank is not None:
        axes.axhline(blank, color="tab:red", ls="--", lw=1, label="blank picture")
    axes.set(xscale="log", xlabel="training seconds", ylabel="PSNR of test views [dB]", title="Time to quality")
    axes.grid(alpha=0.3, which="both", axis="x")
    axes.legend(loc="lower right")
    write_atomically(path, lambda to: figure.savefig(to, format="png"))


def main() -> int:
    """Train or plot, as the arguments say. Return 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", help="folder of a scene; without it, the built-in scene")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--seconds", type=float, default=300.0, help="seconds of training")
    parser.add_argument("--every", type=float, default=10.0, help="training seconds between evaluations")
    parser.add_argument("--views", type=int, default=8, help="test views, evenly spaced")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", help="label of the curve")
    parser.add_argument("--plot", type=Path, nargs="*", default=[], help="curves to draw; nothing is trained then")
    parser.add_argument("--nerfstudio", type=Path, help="log of nerfstudio to draw as well")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for time_to_quality.json and .png")
    options = parser.parse_args()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        curves = [read_curve(path) for path in options.plot]
        if not curves:
            curves = [run_preset(options)]
            write_json(options.out / "time_to_quality.json", dataclasses.asdict(curves[0]))
        if options.nerfstudio:
            curves.append(read_nerfstudio(options.nerfstudio))
        plot(curves, options.out / "time_to_quality.png")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for curve in curves:
        reached = [(bar, curve.reached(bar)) for bar in BARS]
        found = [f"{bar:g} dB {s:.0f} s" for bar, s in reached if s is not None]
        print(f"{curve.label}: " + (", ".join(found) or f"{max(curve.psnr, default=0.0):.1f} dB at most"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
