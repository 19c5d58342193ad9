"""``nerf-metal report``: what a run did, and why, from its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from nerf_metal.util.errors import InputError


@dataclass(frozen=True)
class ReportOptions:
    """Say what a run did and why; writes SUMMARY.md, report.html, training_losses.png and psnr_ssim.png. The run may
    be finished, killed or still going."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder, as nerf-metal train made it."""


def run(args: Sequence[str]) -> int:
    """Write the report and print its gist; returns 0, also for a run that failed."""
    options = tyro.cli(ReportOptions, prog="nerf-metal report", args=list(args))

    from nerf_metal.report import write_report
    from nerf_metal.report.markdown import gist
    from nerf_metal.train.run_folder import RunFolder

    folder, _ = RunFolder.open(options.run, "report")
    try:
        told = write_report(folder)
    except OSError as error:
        raise InputError(
            f"[report] the run folder must be writable, got {error.strerror} ({error.filename}); make it so"
        ) from None
    print(gist(told))
    for path in (folder.summary, folder.report, folder.scores_plot, folder.losses_plot):
        print(f"  {path}")
    return 0
