"""Choice of the device and check of the backend."""

from __future__ import annotations

import torch

from nerf_metal.util.errors import InputError


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``.

    Args:
        name: ``auto``, ``cpu``, ``mps`` or ``cuda``. ``auto`` is mps if available, else cuda, else cpu.

    Raises:
        InputError: the device is not available.
    """
    usable = {"mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in usable.items() if there))
    if not usable[name]:
        built = torch.backends.mps.is_built() if name == "mps" else torch.version.cuda is not None
        why = "no such GPU was found" if built else f"torch {torch.__version__} was built without it"
        raise InputError(f"[train] --device must be available, got {name}: {why}; use --device auto or cpu")
    return torch.device(name)


def check_backend(backend: str, device: torch.device) -> None:
    """Check that ``backend`` can run on ``device`` before anything is computed.

    Args:
        backend: value of ``--backend``, see :mod:`nerf_metal.ops`.
        device: device of the run.

    Raises:
        InputError: the backend cannot run there. The message says why and what to do.
    """
    needed = {"metal": "mps", "host": "cpu"}.get(backend)
    if needed is None:
        return
    if device.type != needed:
        raise InputError(
            f"[train] --backend {backend} must run on --device {needed}, got {device.type}; use --backend auto"
        )
    from nerf_metal.kernels import why_not  # imported here, because it loads the compiled extension

    reason = why_not(backend)
    if reason is not None:
        raise InputError(f"[train] --backend must be usable here, got {backend}: {reason}")
