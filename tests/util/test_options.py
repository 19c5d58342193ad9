"""How options are declared: limits, natures and old names come from the one place."""

import dataclasses
from dataclasses import dataclass

import pytest

from nerf_metal.util.errors import InputError
from nerf_metal.util.options import check_limits, flag, named, old_names, option, taken_from


@dataclass(frozen=True)
class Options:
    """Some."""

    number: int = option(3, at_least=1, at_most=5, cure="3 is usual", fixed=True)
    rate: float | None = option(0.5, above=0, below=1, kept=False)
    name: str = option("x", was="title")
    plain: int = 7

    def __post_init__(self) -> None:
        check_limits(self)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"number": 0}, ("--number", "at least 1 and at most 5", "got 0", "3 is usual")),
        ({"number": 6}, ("--number", "got 6")),
        ({"rate": 0.0}, ("--rate", "more than 0 and less than 1", "got 0.0")),
        ({"rate": 1.0}, ("--rate", "got 1.0")),
        ({"rate": float("nan")}, ("--rate", "finite", "got nan")),
    ],
)
def test_limits(change, parts) -> None:
    with pytest.raises(InputError) as error:
        Options(**change)
    assert all(part in str(error.value) for part in parts), error.value


def test_what_is_declared_is_known() -> None:
    assert Options(rate=None).rate is None  # None has no limits
    assert named(Options, "fixed") == ("number",) and named(Options, "kept") == ("number", "name")
    assert old_names(Options) == {"title": "name"} and flag("max_seconds") == "--max-seconds"


def test_a_part_is_taken_by_name() -> None:
    part = dataclasses.make_dataclass("Part", [("number", int), ("other", int, 9)])
    assert taken_from(part, Options(number=4)) == part(4, 9)
    assert taken_from(part, Options(), other=1) == part(3, 1)
