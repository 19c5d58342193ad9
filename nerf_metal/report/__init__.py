"""What a run leaves for a person: what happened, why, what to change; as text, as a page and as pictures."""

from __future__ import annotations

from nerf_metal.report.html import render_html
from nerf_metal.report.markdown import render_markdown
from nerf_metal.report.plots import plot_losses, plot_scores
from nerf_metal.report.record import read_record
from nerf_metal.report.story import Report, tell
from nerf_metal.report.tables import final_rows, format_table
from nerf_metal.train.run_folder import RunFolder
from nerf_metal.util.atomic import write_atomically

__all__ = ["Report", "final_rows", "format_table", "read_report", "write_report"]


def read_report(folder: RunFolder) -> Report:
    """What there is to say of a run, from what its folder holds now.

    Raises:
        InputError: ``metrics.jsonl`` is damaged.
    """
    return tell(read_record(folder))


def write_report(folder: RunFolder) -> Report:
    """Write ``training_losses.png``, ``psnr_ssim.png``, ``SUMMARY.md`` and ``report.html`` from what the folder holds:
    at the end of a run, or at any time.

    Raises:
        InputError: ``metrics.jsonl`` is damaged.
    """
    report = read_report(folder)
    plot_losses(folder.losses_plot, report.record)
    plot_scores(folder.scores_plot, report.record, report.phases)
    plots = [folder.scores_plot, *([folder.losses_plot] if report.record.train else [])]
    markdown = render_markdown(report, [path.name for path in plots])
    write_atomically(folder.summary, lambda to: to.write_text(markdown))
    html = render_html(report, plots)
    write_atomically(folder.report, lambda to: to.write_text(html))
    return report
