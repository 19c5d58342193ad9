"""Options: presets, overrides, ranges, and that reading them needs no torch."""

import json
import subprocess
import sys

import pytest

from nerf_metal.cli import arguments
from nerf_metal.train import options
from nerf_metal.util.errors import InputError


def parse(*args: str, preset: str = "small") -> options.TrainConfig:
    """What ``nerf-metal train`` would read."""
    return arguments.parse(args, options.preset_config(preset))


def test_preset_gives_what_is_not_given():
    """An option overrides the preset, the rest stays the preset's."""
    config = parse("--hidden-width", "32", preset="classic")
    assert (config.hidden_width, config.depth, config.num_importance, config.preset) == (
        32,
        8,
        128,
        "classic",
    )


def test_steps_alone_lift_the_time_limit():
    """--steps means that many steps; with --max-seconds beside it both limits hold."""
    assert parse("--steps", "7").max_seconds is None
    assert parse("--steps=7").max_seconds is None
    both = parse("--steps", "7", "--max-seconds", "9")
    assert (both.steps, both.max_seconds) == (7, 9.0)
    assert parse().max_seconds is not None


def test_epochs_are_steps():
    """The step limit is the lesser of the two; giving one lifts the preset's other limits."""
    baseline = parse(preset="baseline")
    assert (baseline.steps, baseline.epochs, baseline.max_seconds, baseline.step_limit) == (None, 500, None, 250_000)
    short = parse("--epochs", "3", "--steps-per-epoch", "20", preset="baseline")
    assert (short.step_limit, short.max_seconds) == (60, None)
    assert parse("--steps", "7", preset="baseline").step_limit == 7
    assert parse("--epochs", "2", "--steps", "7", preset="baseline").step_limit == 7
    assert parse("--epochs", "2").max_seconds is None and parse("--epochs", "2").step_limit == 1000
    timed = parse("--max-seconds", "9", preset="baseline")
    assert (timed.max_seconds, timed.step_limit) == (9.0, 250_000)


def test_baseline_is_the_failed_run_to_the_letter():
    """Its parameters as the record has them; rows that a step reduces over follow."""
    baseline = options.preset_config("baseline")
    stated = {"lr": 5e-4, "lr_decay": 0.1, "lr_decay_steps": 250_000, "batch_rays": 2048, "num_samples": 64}
    stated |= {"num_importance": 128, "depth": 10, "hidden_width": 256, "position_bands": 10, "direction_bands": 4}
    stated |= {"epochs": 500, "steps_per_epoch": 500, "report_every": 50}
    unsaid = {"clip_norm": 0.0, "warmup_steps": 0, "ema_decay": 0.0, "density_activation": "relu", "watchdog": "warn"}
    assert all(getattr(baseline, name) == value for name, value in (stated | unsaid).items())


def test_stable_is_its_planned_repair():
    """lr 1e-4, warm-up, clipping, 384 wide, 8 levels, a density that cannot die, random background, average."""
    stable = options.preset_config("stable")
    planned = {"lr": 1e-4, "hidden_width": 384, "position_bands": 8, "density_activation": "softplus"}
    assert all(getattr(stable, name) == value for name, value in planned.items())
    assert stable.clip_norm > 0 and stable.warmup_steps > 0 and stable.ema_decay > 0
    assert (stable.background, stable.watchdog) == ("random", "rollback")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--steps", "-1"), r"\[train\] --steps must be at least 1, got -1; "),
        (("--scene-scale", "inf"), "--scene-scale must be at least 0.001 and at most 1000 and finite, got inf; "),
        (("--scene-scale", "1e-9"), "--scene-scale must be at least 0.001 and at most 1000, got 1e-09; "),
        (("--max-seconds", "0"), r"--max-seconds must be more than 0, got 0\.0; "),
        (("--max-seconds", "nan"), r"--max-seconds must be more than 0 and finite, got nan; "),
        (("--lr", "-0.1"), r"--lr must be more than 0, got -0\.1; "),
        (("--lr-decay", "2"), r"--lr-decay must be more than 0 and at most 1, got 2\.0; "),
        (("--downscale", "0"), r"--downscale must be at least 1, got 0; "),
        (("--batch-rays", "0"), r"--batch-rays must be at least 1, got 0; "),
        (
            ("--preset", "clasic"),
            r"--preset must be one of fast, small, classic, baseline, stable, got clasic; did you mean classic\?",
        ),
        (
            ("--preset", "huge"),
            r"--preset must be one of fast, small, classic, baseline, stable, got huge; choose one of them",
        ),
        (("--watchdog", "bark"), r"--watchdog must be one of warn, rollback, stop, got bark; "),
        (("--rollback-lr", "2"), r"--rollback-lr must be more than 0 and at most 1, got 2\.0; "),
        (("--epochs", "0"), r"--epochs must be at least 1, got 0; "),
        (("--field", "hashgrid", "--ema-decay", "0"), r"--ema-decay must be more than 0 with a hash grid, got 0; "),
        (("--max-seconds", "None"), r"--steps must be given if --epochs and --max-seconds are not, got None; "),
    ],
)
def test_values_out_of_range(args, message):
    """One line that names the option, what was expected, what came and what to do."""
    with pytest.raises(InputError, match=message):
        parse(*args)


def test_json_round_trip():
    """config.json brings the same options back, less those of one call."""
    config = parse("--lr", "0.001", "--data", "somewhere", "--overwrite")
    stored = json.loads(json.dumps(options.to_json(config)))
    assert set(stored) == set(options.KEPT) and not {"overwrite", "quiet", "resume", "view"} & set(stored)
    back = options.from_json(stored, "config.json")
    assert back == options.TrainConfig(**{**stored, "overwrite": False})
    assert back.lr == 0.001


def test_names_of_older_versions_still_work():
    """On the command line and in a stored run."""
    config = parse("--position-levels", "3", "--direction-levels=1")
    assert (config.position_bands, config.direction_bands) == (3, 1)
    stored = {"field": "frequency", "position_levels": 5}
    assert options.from_json(stored, "config.json").position_bands == 5


def test_unknown_stored_options_are_named():
    """A run of a newer version says so."""
    with pytest.raises(InputError, match=r"x.json must hold options that this version knows, got warp; "):
        options.from_json({"warp": 1}, "x.json")


def test_every_option_has_help_and_a_group():
    """Each field has a docstring, each group is in the help, and the flat config holds them all."""
    out = subprocess.run(
        [sys.executable, "-m", "nerf_metal.train", "--preset", "classic", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=_environment(COLUMNS="80"),
    ).stdout
    for name in options.GROUPS:
        assert f"{name} options" in out
    for name in options.to_json(options.TrainConfig()):
        assert f"--{name.replace('_', '-')}" in out
    assert "(default: 250000)" in " ".join(out.split())  # the preset's own value
    assert max(map(len, out.splitlines())) <= 88


def test_reading_options_imports_no_torch():
    """--help must come at once; torch alone takes seconds."""
    code = "import sys; import nerf_metal.train.options, nerf_metal.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    assert done.stdout.strip() == "False", done.stderr


def _environment(**extra: str) -> dict[str, str]:
    import os

    return {**os.environ, **extra}
