"""What a run leaves for a person: the loss plot, the summary and the final table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from nerf_metal.checkpoint import write_atomically
from nerf_metal.config import GROUPS, NOT_KEPT, TrainConfig
from nerf_metal.progress import clock
from nerf_metal.run_folder import RunFolder


def plot_losses(folder: RunFolder) -> None:
    """Draw ``training_losses.png``: the loss on a log scale; PSNR on test views above the blank picture's."""
    # Half a second to import: only when a run ends.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = list(folder.read_metrics())
    train = [line for line in lines if line["event"] == "train"]
    evals = [line for line in lines if line["event"] == "eval"]
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot([line["train_seconds"] for line in train], [line["loss"] for line in train], lw=0.8, color="tab:blue")
    left.set(xlabel="training seconds", ylabel="loss", yscale="log", title="Training loss")
    seconds = [line["train_seconds"] for line in evals]
    right.plot(seconds, [line["psnr"] for line in evals], "o-", color="tab:green", label="test views")
    if evals:
        right.axhline(evals[-1]["blank_psnr"], color="tab:red", ls="--", label="blank picture")
        right.legend(loc="center right")
    right.set(xlabel="training seconds", ylabel="PSNR [dB]", title="Test PSNR")
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
    write_atomically(folder.losses_plot, lambda to: figure.savefig(to, format="png"))


def final_rows(folder: RunFolder) -> list[tuple[str, str]]:
    """Name and value of what matters at the end of a run, from its ``metrics.jsonl``."""
    lines = list(folder.read_metrics())
    evals = [line for line in lines if line["event"] == "eval"]
    train = [line for line in lines if line["event"] == "train"]
    rows: list[tuple[str, str]] = []
    if evals:
        last, best = evals[-1], max(evals, key=lambda line: float(line["psnr"]))
        above = last["psnr"] - last["blank_psnr"]
        rows += [
            ("PSNR", f"{last['psnr']:.2f} dB on {last['views']} {last['split']} views"),
            ("best PSNR", f"{best['psnr']:.2f} dB at {clock(best['train_seconds'])}"),
            ("blank picture", f"{last['blank_psnr']:.2f} dB ({above:+.2f} dB from it)"),
            ("SSIM", f"{last['ssim']:.3f}"),
        ]
    if train:
        last = train[-1]
        starts = [0.0, *(line["train_seconds"] for line in train)]
        rays = sum(
            line["rays_per_second"] * (line["train_seconds"] - start)
            for line, start in zip(train, starts, strict=False)
        )
        speed = rays / max(last["train_seconds"], 1e-9)
        end = lines[-1]  # steps behind the last line of training have an evaluation
        rows.append(("training", f"{end['step']} steps in {clock(end['train_seconds'])} ({speed:,.0f} rays/s)"))
    pictures = sorted(folder.path.glob("quick_render_epoch_*.png"))
    rows.append(("run folder", str(folder.path)))
    rows += [("picture", path.name) for path in pictures[-1:]]
    rows += [("loss plot", folder.losses_plot.name)] if folder.losses_plot.exists() else []
    weights = [p for p in sorted(folder.checkpoints.glob("step_*.safetensors")) if ".optimizer" not in p.name]
    rows += [("weights", f"checkpoints/{path.name}") for path in weights[-1:]]
    return rows


def format_table(rows: Sequence[tuple[str, str]]) -> str:
    """Rows of name and value, aligned."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def write_summary(folder: RunFolder, config: TrainConfig, scene_name: str, notes: Sequence[str], device: str) -> None:
    """Write ``SUMMARY.md``: results, files and options."""
    parts = [f"# {scene_name}, preset {config.preset}, on {device}", ""]
    parts += ["| | |", "|---|---|"] + [f"| {name} | {value} |" for name, value in final_rows(folder)]
    pictures = sorted(folder.path.glob("quick_render_epoch_*.png"))
    if pictures:
        parts += ["", f"![prediction (left) beside truth]({pictures[-1].name})"]
    if folder.losses_plot.exists():
        parts += ["", f"![loss and PSNR]({folder.losses_plot.name})"]
    if notes:
        parts += ["", "## Notes", *(f"- {note}" for note in notes)]
    parts += ["", "## Options"]
    for name, kind in GROUPS.items():
        values: list[Any] = [
            (field.name, getattr(config, field.name))
            for field in dataclasses.fields(kind)
            if field.name not in NOT_KEPT
        ]
        parts.append(f"- {name}: " + ", ".join(f"{key} {value}" for key, value in values))
    write_atomically(folder.summary, lambda to: to.write_text("\n".join(parts) + "\n"))
