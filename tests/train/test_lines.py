"""The lines of the record: what is written is what is read, and names are those that other programs rely on."""

import json

import pytest

from nerf_metal.train import lines

NAMES = {
    lines.TrainLine: "loss mse blank_mse grad_norm lr empty_rays opaque_rays alpha rays_per_second samples_per_second",
    lines.EvalLine: "split views mse psnr ssim blank_psnr",
    lines.HealthLine: "lr empty_rays opaque_rays groups",
    lines.WatchdogLine: "name sentence evidence policy action to_step lr_scale",
    lines.SelfTestLine: "sentence seconds tested untested",
}
WHEN = ["event", "step", "epoch", "train_seconds"]


def full(kind: type[lines.Line]) -> lines.Line:
    """A line with a value for everything that is written."""
    text = {"split", "name", "sentence", "policy", "action"}
    whole = {"views", "to_step", "tested", "untested"}
    values: dict[str, object] = {"step": 20, "epoch": 1, "train_seconds": 1.23456}
    for number, name in enumerate(NAMES[kind].split()):
        values[name] = "x" if name in text else number if name in whole else 0.123456 + number
    values |= {name: {"a": {"b": 1.0}} for name in ("groups", "evidence") if name in values}
    return kind(**values)


@pytest.mark.parametrize("kind", NAMES, ids=lambda kind: kind.event)
def test_names_and_order_are_an_interface(kind) -> None:
    assert list(full(kind).to_json()) == [*WHEN, *NAMES[kind].split()]


@pytest.mark.parametrize("kind", NAMES, ids=lambda kind: kind.event)
def test_what_is_written_is_read(kind) -> None:
    written = full(kind).to_json()
    read = lines.line_of(json.loads(json.dumps(written)))
    assert type(read) is kind and read.to_json() == written


def test_numbers_are_rounded_and_what_is_unknown_is_left_out() -> None:
    line = lines.TrainLine(step=20, train_seconds=1.23456, empty_rays=0.123456, rays_per_second=12.345, loss=0.1234567)
    assert line.to_json() == {
        "event": "train",
        "step": 20,
        "train_seconds": 1.235,
        "loss": 0.1234567,
        "empty_rays": 0.1235,
        "rays_per_second": 12.3,
    }
    assert lines.HealthLine(step=0).to_json()["empty_rays"] is None  # as it always was


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"epoch": 50, "psnr": 8.2}, {"event": "eval", "epoch": 50, "psnr": 8.2}),
        ({"event": "train", "loss": "high", "step": 2.0}, {"event": "train", "step": 2}),
        ({"event": "train", "loss": float("inf"), "lr": True}, {"event": "train"}),
        ({"event": "rumour"}, None),
        ({"loss": 1.0}, None),
    ],
)
def test_lines_of_others(values, expected) -> None:
    line = lines.line_of(values)
    assert (line and line.to_json()) == expected
