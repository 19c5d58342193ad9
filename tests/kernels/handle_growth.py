"""Launch 2 000 times through a double of Metal: ``python -m tests.kernels.handle_growth DOUBLE``.

Prints by how many kilobytes the process has grown. In a process of its own, where nothing else grows.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from nerf_metal import kernels
from tests.kernels.double import Double

_KERNEL = "march_intersect_f32"
_RAYS = 683  # 8 KB of origins
_PARAMS = {"n_rays": _RAYS, "n_samples": 1, "rays_per_thread": _RAYS, "edges_per_thread": 1}
_PARAMS |= {"stratified": 0, "disparity": 0, "seed": 0}


def kilobytes() -> int:
    """Resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * (resource.getpagesize() // 1024)


def launch() -> None:
    """On new tensors: a lost handle keeps their memory."""
    rays = [torch.ones(_RAYS, 3), torch.ones(_RAYS, 3), torch.ones(2, 3)]
    out = [torch.empty(_RAYS), torch.empty(_RAYS), torch.empty(_RAYS, dtype=torch.bool)]
    kernels.launch(_KERNEL, rays + out, _PARAMS | {"t_near": 0.0, "t_far": 1e10}, (1,), backend="metal")


def main(path: str) -> None:
    """Warm up, then measure."""
    double = Double(Path(path))
    with kernels.use_metal_provider(path):
        assert kernels.why_not("metal") is None
        for _ in range(200):
            launch()
        double.clear()
        before = kilobytes()
        for i in range(2000):
            launch()
            if i % 50 == 0:
                double.clear()  # its log grows too
        print(kilobytes() - before)


if __name__ == "__main__":
    main(sys.argv[1])
