"""--log tensorboard: the event files say what metrics.jsonl says."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Iterator

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from nerf_metal.train.loop import train
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.train.tensorboard_log import TensorboardLog, open_log
from nerf_metal.util.errors import InputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of tensorboard's own imports
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder: RunFolder):
    """What TensorBoard shows of a run."""
    everything = dict.fromkeys(event_accumulator.DEFAULT_SIZE_GUIDANCE, 0)
    return event_accumulator.EventAccumulator(str(folder.path / "tensorboard"), size_guidance=everything).Reload()


def curves(folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by name."""
    shown = read(folder)
    return {tag: [(event.step, event.value) for event in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}


def texts(folder: RunFolder, tag: str) -> list[str]:
    """Of a tag, in order."""
    events = read(folder).Tensors(f"{tag}/text_summary")
    return [event.tensor_proto.string_val[0].decode() for event in events]


def expected(folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by name, as metrics.jsonl has them."""

    def numbers(prefix: str, values: dict) -> Iterator[tuple[str, float]]:
        for name, value in values.items():
            if name == "groups":
                yield from ((f"{prefix}/{g}/{n}", x) for g, row in value.items() for n, x in row.items())
            elif type(value) in (int, float) and name not in ("step", "epoch", "train_seconds", "views"):
                yield f"{prefix}/{name}", value

    found: dict[str, list[tuple[int, float]]] = {}
    for line in folder.read_metrics():
        if line["event"] in ("train", "eval", "health"):
            for tag, value in numbers(line["event"], line):
                found.setdefault(tag, []).append((line["step"], np.float32(value).item()))  # TensorBoard's own type
    return found


def observe(folder: RunFolder, log: TensorboardLog, monkeypatch) -> None:
    """Show every line of a run to the log, as the trainer does."""
    write = RunFolder.append_metrics

    def append(self, **values):
        write(self, **values)
        log.line(values.pop("event"), values)

    monkeypatch.setattr(RunFolder, "append_metrics", append)


def test_a_run_and_its_continuation(cube_scene, tiny_config, monkeypatch, plain_plots):
    """Every number of every line at its step, norms of layers among them; a picture for each evaluation; and a resumed
    run takes back what it does again."""
    config = dataclasses.replace(tiny_config, report_every=1)  # evaluations at 20 and 40
    folder = RunFolder.create(config, "cube")
    log = open_log(dataclasses.replace(config, log="tensorboard"), folder, 0)
    assert log is not None
    with monkeypatch.context() as patch:
        observe(folder, log, patch)
        train(config, cube_scene, folder, torch.device("cpu"))
    # Killed after a line that is in no checkpoint: nothing is closed, and everything is there.
    log.line("train", {"step": 60, "epoch": 3, "train_seconds": 9.0, "loss": 123.0})
    assert curves(folder)["train/loss"][-1] == (60, 123.0)

    config = dataclasses.replace(config, steps=80)
    with monkeypatch.context() as patch:
        again = TensorboardLog(folder, 40)
        observe(folder, again, patch)
        train(config, cube_scene, folder, torch.device("cpu"), resume=True)
        again.close()
    shown, wanted = curves(folder), expected(folder)
    assert shown == wanted
    assert [step for step, _ in shown["train/loss"]] == [20, 40, 60, 80]
    assert {"train/lr", "eval/psnr", "health/lr", "health/coarse.trunk/grad_norm"} <= set(shown)
    assert len(texts(folder, "self_test")) == 2
    pictures = read(folder).Images("quick render")
    assert [picture.step for picture in pictures] == [20, 60, 80]
    written = iio.imread(folder.quick_render(4))
    assert np.array_equal(iio.imread(pictures[-1].encoded_image_string), written)


def test_a_picture_comes_with_the_step_after_it(tiny_config):
    """It is drawn after the evaluation's line; one that is not drawn is not shown."""
    folder = RunFolder.create(tiny_config, "cube")
    log = TensorboardLog(folder, 0)
    for step, epoch in ((20, 1), (40, 2)):
        log.line("eval", {"step": step, "epoch": epoch, "train_seconds": 1.0, "psnr": 10.0})
        log.line("health", {"step": step, "epoch": epoch, "train_seconds": 1.0, "lr": 0.1, "empty_rays": None})
        if epoch == 1:
            folder.save_quick_render(epoch, [(torch.zeros(4, 4, 3), torch.ones(4, 4, 3))])
        log.after_step(None)  # type: ignore[arg-type]
        assert [picture.step for picture in read(folder).Images("quick render")] == [20]
    log.close()
    assert set(curves(folder)) == {"eval/psnr", "health/lr"}


def test_a_rollback_takes_back_its_steps(tiny_config):
    """And says so: the curve has each step once, the text stays."""
    folder = RunFolder.create(tiny_config, "cube")
    log = TensorboardLog(folder, 0)

    def lines(*steps: int, loss: float) -> None:
        for step in steps:
            log.line("train", {"step": step, "epoch": 0, "train_seconds": 1.0, "loss": loss})

    lines(20, 40, 60, loss=1.0)
    fault = {"name": "collapse", "sentence": "It fell.", "evidence": {"db": 3.5}, "policy": "rollback"}
    log.line("watchdog", {"step": 60, "epoch": 0, "train_seconds": 1.0, **fault, "action": "rollback", "to_step": 40})
    lines(60, 80, loss=2.0)
    log.line("watchdog", {"step": 80, "epoch": 0, "train_seconds": 1.0, **fault, "evidence": {}, "action": "warn"})
    log.close()
    assert curves(folder) == {"train/loss": [(20, 1.0), (40, 1.0), (60, 2.0), (80, 2.0)]}
    assert texts(folder, "watchdog") == [
        "collapse: It fell. Action: rollback. db 3.5",
        "collapse: It fell. Action: warn.",
    ]


def test_only_where_it_is_asked_for(tiny_config, monkeypatch):
    """No folder without the option; without the package one line that names the extra."""
    folder = RunFolder.create(tiny_config, "cube")
    assert open_log(tiny_config, folder, 0) is None
    assert not (folder.path / "tensorboard").exists()
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(
        InputError, match=r"^\[train --log\] tensorboard must be installed, .*'nerf-metal\[tensorboard\]'$"
    ):
        open_log(dataclasses.replace(tiny_config, log="tensorboard"), folder, 0)
