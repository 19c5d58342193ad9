"""The report of a run: what happened, why, and what to change, as text, as a web page and as plots."""

from __future__ import annotations

from nerf_metal.report.contents import Report, build_report
from nerf_metal.report.html import render_html
from nerf_metal.report.markdown import render_markdown
from nerf_metal.report.plots import plot_losses, plot_scores
from nerf_metal.report.record import read_record
from nerf_metal.report.tables import final_rows, format_table
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.util.atomic import write_atomically

__all__ = ["Report", "final_rows", "format_table", "read_report", "write_report"]


def read_report(folder: RunFolder) -> Report:
    """Build the report of a run from the present content of its folder. Write nothing.

    Raises:
        InputError: ``metrics.jsonl`` is damaged.
    """
    return build_report(read_record(folder))


def write_report(folder: RunFolder) -> Report:
    """Write ``training_losses.png``, ``psnr_ssim.png``, ``SUMMARY.md`` and ``report.html`` into a run folder.

    The files describe the present content of the folder. The run may be finished, stopped or still going.

    Raises:
        InputError: ``metrics.jsonl`` is damaged.
        OSError: a file cannot be written.
    """
    report = read_report(folder)
    plot_losses(folder.losses_plot, report.record)
    plot_scores(folder.scores_plot, report.record, report.phases)
    plots = [("PSNR and SSIM of the test views", folder.scores_plot)]
    if report.record.train:
        plots.append(("Training loss, gradient norm and learning rate", folder.losses_plot))
    markdown = render_markdown(report, plots)
    write_atomically(folder.summary, lambda to: to.write_text(markdown))
    html = render_html(report, plots)
    write_atomically(folder.report, lambda to: to.write_text(html))
    return report
