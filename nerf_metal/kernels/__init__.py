"""Load the extension, choose a backend, pack arguments, launch. Knows kernels by name and nothing of NeRFs.

Backends: ``metal`` (MPS tensors, torch's own stream), ``host`` (CPU tensors, the same shader text as C++), ``torch``
(the references; no kernel runs). ``auto`` takes the first that fits the tensors.
"""

from nerf_metal.kernels.backends import (
    BACKENDS,
    available_host_levels,
    host_level,
    resolve,
    strict_mode,
    use_metal_provider,
    variant,
    why_not,
)
from nerf_metal.kernels.launch import launch

__all__ = [
    "BACKENDS",
    "available_host_levels",
    "host_level",
    "launch",
    "resolve",
    "strict_mode",
    "use_metal_provider",
    "variant",
    "why_not",
]
