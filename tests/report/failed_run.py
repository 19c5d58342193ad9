"""The failed run that the project starts from, typed in from its table: 500 epochs on MPS with an unknown torch."""

from __future__ import annotations

import json
from pathlib import Path

from nerf_metal.train.run_folder import MARK, RunFolder

OPTIONS = {
    **{"field": "frequency", "steps": 250_000, "steps_per_epoch": 500, "batch_rays": 2048},
    **{"num_samples": 64, "num_importance": 128, "depth": 10, "hidden_width": 256},
    **{"position_bands": 10, "direction_bands": 4, "lr": 5e-4, "lr_decay": 0.1, "lr_decay_steps": 250_000},
}
EPOCHS = range(50, 501, 50)
PSNR = (8.2, 8.9, 9.1, 9.3, 9.5, 9.8, 4.33, 4.42, 4.36, 4.31)
MSE = (0.38, 0.32, 0.31, 0.30, 0.29, 0.26, 0.37, 0.36, 0.37, 0.37)
SSIM = (0.31, 0.33, 0.34, 0.35, 0.36, 0.39, 0.21, 0.21, 0.20, 0.21)


def write_failed_run(path: Path, blank_psnr: float | None, **about: object) -> RunFolder:
    """Write the run folder. On Lego's test views, a white picture has a ``blank_psnr`` of 9.5, each view's mean colour
    10.7."""
    path.mkdir(parents=True)
    config = {"kind": MARK, "scene": "Lego", "config": OPTIONS, "device": "mps", "versions": {}} | about
    (path / "config.json").write_text(json.dumps(config))
    folder = RunFolder(path)
    for epoch, psnr, mse, ssim in zip(EPOCHS, PSNR, MSE, SSIM, strict=True):
        blank = {} if blank_psnr is None else {"blank_psnr": blank_psnr}
        folder.append_metrics(event="eval", epoch=epoch, psnr=psnr, mse=mse, ssim=ssim, **blank)
    return folder
