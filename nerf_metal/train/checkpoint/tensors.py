"""Weights and moments, to bytes and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from nerf_metal.train.checkpoint.record import OPTIMIZER, WEIGHTS, Checkpoint, DamagedError, contents_of
from nerf_metal.train.checkpoint.upgrade import upgrade_moments, upgrade_weights
from nerf_metal.util.errors import InputError

AVERAGE = "average."
"""Stands before the names of the averaged weights."""


def named_weights(model: nn.Module, average: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return everything in the model's state, and the averaged weights, under the names that a checkpoint has."""
    return {**model.state_dict(), **{AVERAGE + name: weight for name, weight in average.items()}}


def dump_weights(model: nn.Module, average: Mapping[str, torch.Tensor]) -> bytes:
    """Return everything in the model's state, and the averaged weights by name, as a file's contents."""
    contents: bytes = save({name: _plain(tensor) for name, tensor in named_weights(model, average).items()})
    return contents


def dump_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> bytes:
    """Adam's moments and step counts, by the name of their parameter in ``model``. Its options are not here: they come
    from the run's, and the learning rate from the step."""
    names = _learning(model)
    moments = {
        f"{names[index]}/{key}": _plain(torch.as_tensor(value))
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    contents: bytes = save(moments)
    return contents


def load_weights(checkpoint: Checkpoint, model: nn.Module, average: Mapping[str, torch.Tensor] | None = None) -> None:
    """Copy a checkpoint's weights into ``model`` and its averaged weights into ``average``, on the model's device.

    Raises:
        InputError: the file is missing or damaged, or belongs to another model; the message names the first
            tensor that differs.
    """
    average = average or {}
    expected = named_weights(model, average)
    weights = upgrade_weights(_load(checkpoint, WEIGHTS), expected, checkpoint.format)
    for name in sorted(set(weights) | set(expected)):
        have, want = weights.get(name), expected.get(name)
        if have is None or want is None or have.shape != want.shape:
            shapes = ("nothing" if tensor is None else list(tensor.shape) for tensor in (want, have))
            raise _other_model(checkpoint, WEIGHTS, f"{name} of shape", *shapes)
        if have.dtype != want.dtype:
            raise _other_model(checkpoint, WEIGHTS, f"{name} of", want.dtype, have.dtype)
    with torch.no_grad():
        for name, weight in average.items():
            weight.copy_(weights.pop(AVERAGE + name))
    model.load_state_dict(weights)


def load_pictured(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copy a checkpoint's weights into ``model`` for pictures: the averaged ones where there are any.

    Raises:
        InputError: as :func:`load_weights`.
    """
    averaged = any(name.startswith(AVERAGE) for name in checkpoint.shapes)
    average = {name: weight.detach().clone() for name, weight in model.named_parameters()} if averaged else {}
    load_weights(checkpoint, model, average)
    model.load_state_dict({**model.state_dict(), **average})


def load_optimizer(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put Adam's moments back, for parameters named as in ``model``; they replace all that ``optimizer`` has.

    Raises:
        InputError: the file is missing or damaged, or belongs to another model.
    """
    names = _learning(model)
    moments: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in sorted(upgrade_moments(_load(checkpoint, OPTIMIZER), checkpoint.format).items()):
        parameter, _, key = name.rpartition("/")
        if parameter not in names:
            raise _other_model(checkpoint, OPTIMIZER, f"{name} of shape", "nothing", list(value.shape))
        moments.setdefault(parameter, {})[key] = value
    state = {index: moments[name] for index, name in enumerate(names) if name in moments}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous()


def _learning(model: nn.Module) -> list[str]:
    """Names of the parameters that an optimizer has, in its order."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def _load(checkpoint: Checkpoint, suffix: str) -> dict[str, torch.Tensor]:
    """The tensors of the very bytes that were checked, in memory of their own: a mapped file could change later."""
    try:
        tensors: dict[str, torch.Tensor] = load(contents_of(checkpoint, suffix))
    except (DamagedError, SafetensorError, OSError) as error:
        raise InputError(
            f"[checkpoint] {checkpoint.path.with_suffix(suffix)} must be as it was saved, got: {error}; "
            "try again: the checkpoint before it will be used"
        ) from None
    return tensors


def _other_model(checkpoint: Checkpoint, suffix: str, what: str, want: object, have: object) -> InputError:
    return InputError(
        f"[checkpoint] {checkpoint.path.with_suffix(suffix)} must hold {what} {want}, got {have}; "
        "it is another model's: use the options in its run's config.json"
    )
