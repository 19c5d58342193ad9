"""Names that tensors had in format 2, and what they are called now."""

import torch

from nerf_metal.train.checkpoint.upgrade import upgrade_moments, upgrade_weights


def named(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.full((1,), float(number)) for number, name in enumerate(names)}


def test_two_networks_alone() -> None:
    old = named("aabb", "coarse.density.weight")
    expected = named("field.aabb", "field.coarse.density.weight", "corrections.poses", "corrections.gains")
    got = upgrade_weights(old, expected, 2)
    assert got.keys() == expected.keys()
    assert got["field.coarse.density.weight"] is old["coarse.density.weight"]
    assert upgrade_moments(named("coarse.density.weight/step"), 2).keys() == {"field.coarse.density.weight/step"}


def test_two_networks_beside_an_average() -> None:
    """Buffers of the average were copies; what was off had no tensors, neither learnt nor averaged."""
    old = named("field.aabb", "field.fine.w", "average.aabb", "average.fine.w", "corrections.poses")
    corrections = [f"{part}corrections.{name}" for part in ("", "average.") for name in ("poses", "gains")]
    expected = named("field.aabb", "field.fine.w", "average.field.fine.w", *corrections)
    got = upgrade_weights(old, expected, 2)
    assert got.keys() == expected.keys()
    assert got["average.field.fine.w"] is old["average.fine.w"]
    assert got["average.corrections.poses"] is got["corrections.poses"] is old["corrections.poses"]
    assert upgrade_moments(named("field.fine.w/step"), 2).keys() == {"field.fine.w/step"}


def test_a_hash_grid() -> None:
    old = named(
        "field.table",
        "field.density_weights.0",
        "average.table",
        "average.color_weights.2",
        "grid.bits",
        "_extra_state",
    )
    expected = named(
        *("field.encoding.table", "field.density_network.weights.0", "grid.bits", "_extra_state"),
        *("average.field.encoding.table", "average.field.color_network.weights.2"),
    )
    got = upgrade_weights(old, expected, 2)
    assert got.keys() == expected.keys()
    assert got["average.field.encoding.table"] is old["average.table"]
    moments = named("field.table/exp_avg", "field.color_weights.1/step", "corrections.poses/exp_avg")
    assert upgrade_moments(moments, 2).keys() == {
        *("field.encoding.table/exp_avg", "field.color_network.weights.1/step", "corrections.poses/exp_avg")
    }


def test_today_nothing_is_renamed() -> None:
    now = named("field.table", "average.field.table")
    assert upgrade_weights(now, {}, 3) is now and upgrade_moments(now, 3) is now
