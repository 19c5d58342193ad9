"""Conversion of weights and Adam's moments to the contents of a file, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from nerf_metal.train.checkpoint.record import OPTIMIZER, WEIGHTS, Checkpoint, DamagedError, contents_of
from nerf_metal.train.checkpoint.upgrade import AVERAGE, upgrade_moments, upgrade_weights
from nerf_metal.util.errors import InputError


def named_weights(model: nn.Module, average: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return everything in the model's state and the averaged weights, by their names in a checkpoint."""
    return {**model.state_dict(), **{AVERAGE + name: weight for name, weight in average.items()}}


def dump_weights(model: nn.Module, average: Mapping[str, torch.Tensor]) -> bytes:
    """Return everything in the model's state and the averaged weights, as the contents of a file.

    Args:
        model: model whose state is saved.
        average: averaged weights by name, without the prefix.
    """
    contents: bytes = save({name: _plain(tensor) for name, tensor in named_weights(model, average).items()})
    return contents


def dump_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> bytes:
    """Return Adam's moments and step counts, by the name of their parameter in ``model``, as the contents of a file.

    The options of the optimizer are not saved. They follow from the options of the run, and the learning rate follows
    from the step.
    """
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

    Args:
        checkpoint: checkpoint to load.
        model: model that receives the weights.
        average: tensors that receive the averaged weights, by name; None if there is no average.

    Raises:
        InputError: the file is missing or damaged, or belongs to another model. The message names the first tensor
            that differs.
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
    """Copy the weights for pictures into ``model``: the averaged weights if the checkpoint has them, else the others.

    Raises:
        InputError: the file is missing or damaged, or belongs to another model.
    """
    averaged = any(name.startswith(AVERAGE) for name in checkpoint.shapes)
    average = {name: weight.detach().clone() for name, weight in model.named_parameters()} if averaged else {}
    load_weights(checkpoint, model, average)
    model.load_state_dict({**model.state_dict(), **average})


def load_optimizer(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load Adam's moments into ``optimizer``. They replace its whole state.

    Args:
        checkpoint: checkpoint to load.
        model: model whose parameters the optimizer has, in the same order.
        optimizer: Adam optimizer that receives the moments.

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
    """Return the names of the parameters that learn, in the order of the optimizer."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def _load(checkpoint: Checkpoint, suffix: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a file, made from the bytes that were checked. A mapped file could change later."""
    try:
        tensors: dict[str, torch.Tensor] = load(contents_of(checkpoint, suffix))
    except (DamagedError, SafetensorError, OSError) as error:
        raise InputError(
            f"[checkpoint] {checkpoint.path.with_suffix(suffix)} must be unchanged since it was saved, got: {error}; "
            "try again, and the checkpoint before it will be used"
        ) from None
    return tensors


def _other_model(checkpoint: Checkpoint, suffix: str, what: str, want: object, have: object) -> InputError:
    return InputError(
        f"[checkpoint] {checkpoint.path.with_suffix(suffix)} must hold {what} {want}, got {have}; "
        "the file belongs to another model: use the options in the config.json of its run"
    )
