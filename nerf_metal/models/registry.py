"""The registry of models: it finds and makes the model that ``--field`` names."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from typing import Any, get_args, get_type_hints

import torch

from nerf_metal.models.base import Model, Space
from nerf_metal.util.errors import InputError
from nerf_metal.util.options import check_limits, taken_from

MODELS = {
    "hashgrid": "nerf_metal.models.hash_grid.model:HashGridModel",
    "frequency": "nerf_metal.models.coarse_fine.model:CoarseFineModel",
}
"""Classes of the package's models, as ``MODULE:CLASS``, by the value of ``--field``."""


def model_class(field: str) -> type[Model]:
    """Return the class of a model.

    Args:
        field: value of ``--field``: a key of :data:`MODELS`, or ``MODULE:CLASS`` of a model of your own. The module is
            also searched for in the current folder.

    Raises:
        InputError: there is no such class, or it is not a subclass of :class:`Model`.
    """
    module, _, name = MODELS.get(field, field).partition(":")
    if not name:
        raise _rejected(field, f"be one of {', '.join(MODELS)} or MODULE:CLASS", field)
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise _rejected(field, "name a class that can be imported", f"{field} ({error})") from error
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise _rejected(field, "name a subclass of nerf_metal.models.Model", field)
    return found


def model_config(field: str, options: object, text: str = "") -> Any:
    """Make the configuration of the model that ``--field`` names.

    Args:
        field: value of ``--field``, see :func:`model_class`.
        options: options of a run. The values of those that the model's ``Config`` has too are used.
        text: value of ``--field-options``: ``NAME=VALUE,...`` for options that only the model has.

    Raises:
        InputError: the model has no such option, or its value cannot be read or is out of its range.
    """
    kind = model_class(field).Config
    types = get_type_hints(kind)
    own = [item.name for item in dataclasses.fields(kind) if not hasattr(options, item.name)]
    given: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name not in own:
            known = f"NAME=VALUE of {', '.join(own)}" if own else "empty: the model has no options of its own"
            raise InputError(f"[train] --field-options must be {known}, got {part}; correct the name")
        given[name] = _read(name, value, types[name])
    config: Any = taken_from(kind, options, **given)
    check_limits(config)
    return config


def build_model(field: str, config: Any, space: Space, seed: int) -> Model:
    """Make a model on the CPU with weights that depend on ``seed`` alone.

    Args:
        field: value of ``--field``, see :func:`model_class`.
        config: instance of the model's ``Config``.
        space: facts about the scene.
        seed: seed of the weights. The random state of torch is unchanged afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(field)(config, space)


def _read(name: str, text: str, kind: Any) -> Any:
    """Return the value of an option from its text."""
    choices = [choice for choice in get_args(kind) if not isinstance(choice, type)]
    if kind is bool or choices:
        for choice in choices or (True, False):
            if text.lower() == str(choice).lower():
                return choice
        expected = " or ".join(str(choice) for choice in choices or (True, False))
    else:
        kinds = [choice for choice in get_args(kind) if choice is not type(None)] or [kind]
        try:
            return kinds[0](text)
        except (TypeError, ValueError):
            expected = f"of type {kinds[0].__name__}"
    raise InputError(f"[train] --field-options {name} must be {expected}, got {text or 'nothing'}; correct the value")


def _rejected(field: str, expected: str, got: str) -> InputError:
    return InputError(
        f"[train] --field must {expected}, got {got}; run where python can import the module, "
        "for example --field examples.voxel_grid:VoxelGrid in a clone of the project"
    )
