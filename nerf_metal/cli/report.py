"""``nerf-metal report``: explain what happened in a run, from its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nerf_metal.cli.arguments import read_options
from nerf_metal.cli.opened import RunArgument, unwritable


@dataclass(frozen=True)
class ReportOptions:
    """Explain what happened in a run and why.

    Files in the run folder:
    - SUMMARY.md, report.html: the report
    - training_losses.png, psnr_ssim.png: its plots

    The run may be finished, killed or still training.
    """

    run: RunArgument
    """Run folder that nerf-metal train made."""


def run(args: Sequence[str]) -> int:
    """Run the command and return 0, even if the run failed."""
    options = read_options(ReportOptions, "report", args)

    from nerf_metal.report import write_report
    from nerf_metal.report.markdown import gist
    from nerf_metal.train.run_folder import RunFolder

    folder, _ = RunFolder.open(options.run, "report")
    try:
        told = write_report(folder)
    except OSError as error:
        raise unwritable("report", error) from None
    print(gist(told))
    for path in (folder.summary, folder.report, folder.scores_plot, folder.losses_plot):
        print(f"  {path}")
    return 0
