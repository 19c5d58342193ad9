"""The folder of a run: ``config.json``, ``metrics.jsonl``, quick renders, checkpoints, and the report's files."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import torch

import nerf_metal
from nerf_metal.train.options import TrainConfig, from_json, to_json
from nerf_metal.util.atomic import write_atomically, write_json
from nerf_metal.util.errors import InputError
from nerf_metal.util.pictures import to_uint8

MARK = "nerf_metal run"
"""Value of ``config.json``'s ``kind``: by it a folder is known to be a run, and may be deleted by
``--overwrite``."""


class RunFolder:
    """A run's files. Made by :meth:`create` or :meth:`open`."""

    def __init__(self, path: Path) -> None:
        """Name the files; nothing is read or written."""
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.losses_plot = path / "training_losses.png"
        self.scores_plot = path / "psnr_ssim.png"
        self.summary = path / "SUMMARY.md"
        self.report = path / "report.html"

    @classmethod
    def create(cls, config: TrainConfig, scene_name: str) -> RunFolder:
        """Make the folder ``config.out``, or ``runs/<scene>-<preset>-<time>``, and write ``config.json``.

        Raises:
            InputError: the folder exists and is not empty (and ``--overwrite`` was not given, or it holds no
                run), or it cannot be written.
        """
        slug = re.sub(r"[^A-Za-z0-9._]+", "-", scene_name).strip("-.") or "scene"
        default = Path("runs") / f"{slug}-{config.preset}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = cls(Path(config.out) if config.out else default)
        path = folder.path
        check_out(path, config.overwrite)
        try:
            if path.exists():
                shutil.rmtree(path)
            folder.checkpoints.mkdir(parents=True, exist_ok=True)
            folder.write_config(config, scene_name)
        except OSError as error:
            raise InputError(
                f"[train] --out must be a folder that can be written, got {path} ({error.strerror}); give another --out"
            ) from None
        return folder

    @classmethod
    def open(cls, path: str | Path, command: str) -> tuple[RunFolder, TrainConfig]:
        """A run that exists, and its options; ``command`` (``train --resume``, ``eval``) is named in
        messages.

        Raises:
            InputError: no run there.
        """
        folder = Path(path)
        if not _is_run(folder):
            raise InputError(
                f"[{command}] the run must be a folder with a config.json, got {folder}; "
                "give the folder that nerf-metal train printed"
            )
        about = cls(folder)._about()
        return cls(folder), from_json(about.get("config", {}), str(folder / "config.json"))

    @property
    def data(self) -> str | None:
        """Where the photographs are, by ``config.json``: a person may mend it where they were moved."""
        data = self._about().get("config", {}).get("data")
        return None if data is None else str(data)

    def write_config(self, config: TrainConfig, scene_name: str, **about_run: Any) -> None:
        """Write ``config.json``: the options, the versions they were used with, and what else there is to know of the
        run (``notes``, ``aabb`` and ``capture_to_scene`` of the scene, ``device``, ``machine``)."""
        about = {
            "kind": MARK,
            "scene": scene_name,
            "config": to_json(config),
            "versions": {
                "nerf_metal": nerf_metal.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
            },
            **about_run,
        }
        write_json(self.path / "config.json", about)

    @property
    def capture_to_scene(self) -> torch.Tensor:
        """The similarity float64 ``[4, 4]`` from the capture's coordinates to the run's; the identity for runs of
        before captures, which do not say."""
        stored = self._about().get("capture_to_scene")
        return torch.eye(4, dtype=torch.float64) if stored is None else torch.tensor(stored, dtype=torch.float64)

    @property
    def scene_box(self) -> torch.Tensor | None:
        """The box float64 ``[2, 3]`` of what the pictures are of; None for runs that do not say."""
        stored = self._about().get("aabb")
        return None if stored is None else torch.tensor(stored, dtype=torch.float64)

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = json.loads((self.path / "config.json").read_text())
        return about

    def append_metrics(self, **values: Any) -> None:
        """Add one line to ``metrics.jsonl``; a reader sees whole lines only, also where the disk is full.

        Raises:
            OSError: it cannot be written; the file is as it was.
        """
        line = (json.dumps(values, allow_nan=False) + "\n").encode()
        with self.metrics.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.metrics))
            except OSError:
                file.truncate(before)
                raise

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """The lines of ``metrics.jsonl`` so far, without a last one that a killed run left unfinished.

        Raises:
            InputError: another line is damaged.
        """
        lines = self.metrics.read_text(errors="replace").splitlines() if self.metrics.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                values = json.loads(line)
            except ValueError:
                values = None
            if isinstance(values, dict):
                yield values
            elif number < len(lines) and line.strip():
                raise InputError(
                    f"[metrics] line {number} of {self.metrics} must be a JSON object, got {line[:40]!r}; "
                    "delete the line"
                )

    def cut_metrics(self, train_seconds: float) -> float:
        """Drop the lines after so many seconds: what a run did after its last checkpoint and a resumed one does again.
        What the watchdog said stays. Returns the seconds of the last line that is left.

        Seconds, not steps: these go back where the watchdog rolled back.
        """
        last = train_seconds + 0.001  # the lines have milliseconds
        kept = [x for x in self.read_metrics() if x["event"] == "watchdog" or x["train_seconds"] <= last]
        write_atomically(self.metrics, lambda to: to.write_text("".join(json.dumps(x) + "\n" for x in kept)))
        return max((x["train_seconds"] for x in kept), default=0.0)

    def quick_render(self, epoch: int) -> Path:
        """The picture of an epoch's evaluation."""
        return self.path / f"quick_render_epoch_{epoch:02d}.png"

    def save_quick_render(self, epoch: int, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Path:
        """Write ``quick_render_epoch_XX.png``, see :func:`beside_each_other`; a later one of the epoch
        replaces it."""
        return self.save_picture(self.quick_render(epoch).name, pairs)

    def save_picture(self, name: str, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Path:
        """Write pictures side by side under ``name`` and return the path."""
        path, picture = self.path / name, beside_each_other(pairs)
        write_atomically(path, lambda to: iio.imwrite(to, picture, extension=".png"))
        return path


def check_out(path: Path, overwrite: bool) -> None:
    """Refuse a folder that holds anything but a run to overwrite, or a run that never got to its first line.

    Raises:
        InputError: it does.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if _is_run(path) and (overwrite or not (path / "metrics.jsonl").exists()):
        return
    if not overwrite:
        raise InputError(
            f"[train] --out must be a new or empty folder, got {path}, which exists; "
            "give another name or add --overwrite"
        )
    raise InputError(
        f"[train] --overwrite must name a folder of a run, got {path} without a run's config.json; "
        "give another --out or delete it yourself"
    )


def beside_each_other(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Any:
    """One uint8 picture of (prediction, truth) pairs ``[H, W, 3]`` in [0, 1]: a row each, a light grey gap
    between.

    Small pictures are enlarged by whole factors, pixel by pixel, until a row is about 800 pixels wide.
    """
    height, width = pairs[0][0].shape[:2]
    factor, gap = max(1, 400 // width), 8
    rows = []
    for pair in pairs:
        shown = [x.detach().cpu().repeat_interleave(factor, 0).repeat_interleave(factor, 1) for x in pair]
        gutter = torch.full((height * factor, gap, 3), 0.9)
        rows.append(torch.cat((shown[0], gutter, shown[1]), dim=1))
        rows.append(torch.full((gap, rows[0].shape[1], 3), 0.9))
    return to_uint8(torch.cat(rows[:-1]))


def _is_run(path: Path) -> bool:
    """Whether the folder has a ``config.json`` that says it is a run."""
    try:
        about = json.loads((path / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("kind") == MARK
