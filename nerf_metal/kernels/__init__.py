"""Load the extension, choose a backend, pack arguments, launch. Knows kernels by name and nothing of NeRFs.

Backends: ``metal`` (MPS tensors, torch's own stream), ``host`` (CPU tensors, the same shader text as C++), ``torch``
(the references; no kernel runs). ``auto`` takes the first that fits the tensors.
"""

from nerf_metal.kernels.backends import (
    BACKENDS,
    LaunchRecord,
    available_host_isas,
    device_of,
    host_isa,
    kernel_form,
    record_launches,
    resolve,
    strict_mode,
    use_metal_provider,
    variant,
    why_not,
)
from nerf_metal.kernels.launch import compile_library, launch

__all__ = [
    "BACKENDS",
    "LaunchRecord",
    "available_host_isas",
    "compile_library",
    "device_of",
    "host_isa",
    "kernel_form",
    "launch",
    "record_launches",
    "resolve",
    "strict_mode",
    "use_metal_provider",
    "variant",
    "why_not",
]
