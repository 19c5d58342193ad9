"""Choosing the device and checking the backend."""

from __future__ import annotations

import torch

from nerf_metal.util.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device called ``name``: ``auto`` (mps, else cuda, else cpu), ``cpu``, ``mps`` or ``cuda``.

    Raises:
        InputError: it is not there.
    """
    usable = {"mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in usable.items() if there))
    if not usable[name]:
        built = torch.backends.mps.is_built() if name == "mps" else torch.version.cuda is not None
        why = "no such GPU" if built else f"a torch ({torch.__version__}) built without it"
        raise InputError(f"[train] --device must be there, got {name} with {why}; use --device auto or cpu")
    return torch.device(name)


def check_backend(backend: str, device: torch.device) -> None:
    """Check that ``backend`` can run on ``device`` before anything is computed.

    Raises:
        InputError: it cannot; the message says why and what to do.
    """
    needed = {"metal": "mps", "host": "cpu"}.get(backend)
    if needed is None:
        return
    if device.type != needed:
        raise InputError(
            f"[train] --backend {backend} must run on --device {needed}, got {device.type}; use --backend auto"
        )
    from nerf_metal.kernels import why_not  # loads the compiled extension: only where it is asked for

    reason = why_not(backend)
    if reason is not None:
        raise InputError(f"[train] --backend must be usable here, got {backend}: {reason}")
