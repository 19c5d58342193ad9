"""How an option is declared: its default, its limits and its nature, all in one place.

An option is a field of a frozen dataclass. Its help is the docstring below it. Its default has its reason beside it.
Everything else that the project must know of it is metadata of the field::

    levels: int = option(8, at_least=1, fixed=True)  # 8 levels of 4 features are 64 reads a sample
    \"""Number of resolutions of the hash grid.\"""

Nothing here imports torch: ``--help`` must come at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, TypeVar

from nerf_metal.util.errors import InputError

_WORDS = {"at_least": "at least", "at_most": "at most", "above": "more than", "below": "less than"}
_Options = TypeVar("_Options")


def option(
    default: Any,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    cure: str = "give a number in that range or leave it out",
    fixed: bool = False,
    kept: bool = True,
    was: str | None = None,
) -> Any:
    """Declare an option as a field of a dataclass.

    Args:
        default: the value if nobody gives one.
        at_least: the least value that is allowed.
        at_most: the greatest value that is allowed.
        above: the value must be greater than this.
        below: the value must be less than this.
        cure: what the error message tells the user to do about a value outside of these limits.
        fixed: a resumed run cannot change the option: another value would make another run of it.
        kept: the option belongs to the run and is stored in ``config.json``. False for an option of one call.
        was: the name of the option in older versions, which still works.
    """
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata = {"limits": limits, "cure": cure, "fixed": fixed, "kept": kept, "was": was}
    return dataclasses.field(default=default, metadata=metadata)


def flag(name: str) -> str:
    """Return the option as it is written on the command line: ``--max-seconds`` for ``max_seconds``."""
    return f"--{name.replace('_', '-')}"


def reject(name: str, expected: str, value: object, cure: str) -> NoReturn:
    """Refuse the value of an option.

    Raises:
        InputError: always; one line that names the option, what was expected, what came and what to do.
    """
    raise InputError(f"[train] {flag(name)} must {expected}, got {value}; {cure}")


def check_limits(options: Any) -> None:
    """Check every field of a dataclass of options against the limits of its declaration. None has no limits.

    Raises:
        InputError: a value is out of its range, or is not finite.
    """
    for field in dataclasses.fields(options):
        value, limits = getattr(options, field.name), field.metadata.get("limits", {})
        given = {name: limit for name, limit in limits.items() if limit is not None}
        if value is None or not given:
            continue
        if not all(_holds(name, value, limit) for name, limit in given.items()):
            words = " and ".join(f"{_WORDS[name]} {limit:g}" for name, limit in given.items())
            reject(
                field.name, f"be {words}{'' if math.isfinite(value) else ' and finite'}", value, field.metadata["cure"]
            )


def named(kind: type, key: str) -> tuple[str, ...]:
    """Return the names of a dataclass's options whose metadata ``key`` (``fixed``, ``kept``) is true."""
    return tuple(field.name for field in dataclasses.fields(kind) if field.metadata.get(key))


def old_names(kind: type) -> Mapping[str, str]:
    """Return the names that options had in older versions, and the names that they have now."""
    return {field.metadata["was"]: field.name for field in dataclasses.fields(kind) if field.metadata.get("was")}


def taken_from(kind: type[_Options], options: object, **more: Any) -> _Options:
    """Make a dataclass of options from the values that ``options`` has under the same names.

    Args:
        kind: the dataclass, usually a part of the options of a run.
        options: has the values as attributes. A field that it lacks keeps its default.
        more: values that take precedence.
    """
    return kind(**{**dict(_values(kind, options)), **more})


def _values(kind: type, options: object) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(kind):
        if hasattr(options, field.name):
            yield field.name, getattr(options, field.name)


def _holds(name: str, value: float, limit: float) -> bool:
    if not math.isfinite(value):
        return False
    return {"at_least": value >= limit, "at_most": value <= limit, "above": value > limit, "below": value < limit}[name]
