"""Reading the options of a command from its arguments."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, get_type_hints

import docstring_parser
import tyro

from nerf_metal.train.options import GROUPS, OLD_NAMES, TrainConfig
from nerf_metal.util.options import flag

Options = TypeVar("Options")


def given(args: Sequence[str], option: str) -> str | None:
    """Return the last value of ``option`` (``--name value`` or ``--name=value``) in ``args``, or None."""
    value = None
    for position, word in enumerate(args):
        if word == option and position + 1 < len(args):
            value = args[position + 1]
        elif word.startswith(option + "="):
            value = word[len(option) + 1 :]
    return value


def read_options(kind: type[Options], command: str, args: Sequence[str]) -> Options:
    """Read the options of ``nerf-metal COMMAND``.

    Args:
        kind: a dataclass, one field for each option, with its help below it.
        command: name of the command.
        args: the words after it.

    Raises:
        SystemExit: ``--help`` was given, or a word that is not an option, which tyro prints.
    """
    return tyro.cli(_with_flowing_help(kind), prog=f"nerf-metal {command}", args=list(args))


def parse(args: Sequence[str], default: TrainConfig) -> TrainConfig:
    """Read the options of ``nerf-metal train``. Options that are not given keep their value in ``default``.

    Raises:
        InputError: a value is out of its range.
        SystemExit: ``--help`` was given, or a word that is not an option, which tyro prints.
    """
    args = [_present_name(word) for word in args]
    limits = {name: given(args, flag(name)) for name in ("steps", "epochs", "max_seconds")}
    if limits["steps"] is not None or limits["epochs"] is not None:
        # 1 is a placeholder: the given value replaces it
        default = dataclasses.replace(default, **{name: text and 1 for name, text in limits.items()})  # type: ignore[arg-type]
    # tyro groups the help by nested dataclasses: nest the options for the parser, and flatten its result.
    kinds: dict[str, type[Any]] = {name: _with_flowing_help(kind) for name, kind in GROUPS.items()}
    nested = dataclasses.make_dataclass("Options", list(kinds.items()))
    defaults = {
        name: kind(**{field.name: getattr(default, field.name) for field in dataclasses.fields(kind)})
        for name, kind in kinds.items()
    }
    options = tyro.cli(
        nested,
        prog="nerf-metal train",
        description="Train a NeRF. Without options, train on the built-in scene on the best device.",
        args=args,
        default=nested(**defaults),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    flat: dict[str, Any] = {}
    for name in GROUPS:
        flat.update(vars(getattr(options, name)))
    return TrainConfig(**flat)


def _present_name(word: str) -> str:
    """Return a word of the command line with the present name of its option. Names of older versions still work."""
    name, equals, value = word.partition("=")
    now = {flag(old): flag(new) for old, new in OLD_NAMES.items()}
    return f"{now.get(name, name)}{equals}{value}"


def _with_flowing_help(kind: type[Options]) -> type[Options]:
    """Return a subclass of a dataclass whose help has no line breaks of the source: tyro 1.0 keeps those within an
    indented docstring of an attribute."""
    hints = get_type_hints(kind, include_extras=True)
    helps = {}
    for base in reversed(kind.__mro__[:-1]):
        helps.update({text.arg_name: text.description for text in docstring_parser.parse_from_object(base).params})
    fields: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        hint, text = hints[field.name], helps.get(field.name)
        if text:
            hint = Annotated[hint, tyro.conf.arg(help=" ".join(inspect.cleandoc(text).split()))]
        fields.append(
            (field.name, hint, dataclasses.field(default=field.default, default_factory=field.default_factory))
        )
    return dataclasses.make_dataclass(
        kind.__name__, fields, bases=(kind,), namespace={"__doc__": kind.__doc__}, frozen=True
    )
