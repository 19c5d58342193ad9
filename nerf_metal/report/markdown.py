"""``SUMMARY.md``: the report as Markdown that is also readable in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nerf_metal.report.cause import Cause
from nerf_metal.report.contents import CERTAINTY, Report
from nerf_metal.report.tables import Table
from nerf_metal.util.text import wrap


def render_markdown(report: Report, plots: Sequence[tuple[str, Path]]) -> str:
    """Return the text of ``SUMMARY.md``.

    Args:
        report: what to print.
        plots: captions and files of the plots, which lie beside ``SUMMARY.md``.
    """
    lines = [f"# {report.title}", "", *wrap(f"**{report.verdict}**")]
    if report.key:
        lines += ["", *table_lines(Table(("", ""), report.key, words=2))]
    lines += _section("Findings", bullets(report.sentences))
    lines += _section("Most likely causes", cause_lines(report.causes))
    lines += _section("What to change", bullets(report.changes))
    lines += _section("Not known", bullets(report.unknown))
    lines += _section("Phases", table_lines(report.phase_table))
    lines += _section("Progress", table_lines(report.progress))
    pictures = [*plots, *report.pictures[-1:]]
    lines += _section("Pictures", [f"![{caption}]({path.name})" for caption, path in pictures])
    lines += _section("Layers at the last evaluation", table_lines(report.health))
    lines += _section("Watchdog", _event_lines(report.events))
    lines += _section("Notes", bullets(report.notes))
    lines += _section("Machine and versions", _pairs(report.machine))
    options = (f"{group}: {', '.join(f'{name} {value}' for name, value in rows)}" for group, rows in report.options)
    lines += _section("Options", bullets(options))
    return "\n".join(lines) + "\n"


def gist(report: Report) -> str:
    """Return the verdict, the findings, the phases and the causes as text for a terminal."""
    lines = [*wrap(report.verdict), ""]
    rest = bullets(report.sentences[1:])  # the verdict contains the first one
    lines += [*rest, ""] if rest else []
    lines += [*table_lines(report.phase_table), ""] if report.phases else []
    if report.causes:
        lines += ["Most likely causes:", *cause_lines(report.causes), ""]
        lines += ["What to change:", *bullets(report.changes), ""]
    lines += ["Not known:", *bullets(report.unknown), ""] if report.unknown and report.status != "good" else []
    return "\n".join(lines)


def bullets(items: Iterable[str]) -> list[str]:
    """Return the lines of a bullet list, wrapped at 80 columns."""
    return [line for item in items for line in wrap(item, "- ")]


def cause_lines(causes: Sequence[Cause]) -> Iterator[str]:
    """Yield the lines of a numbered list of causes, each with its certainty and its evidence."""
    for rank, cause in enumerate(causes, 1):
        yield from wrap(f"{cause.sentence} ({CERTAINTY[cause.certainty]}).", f"{rank}. ")
        for sentence in cause.evidence:
            yield from wrap(sentence, "   - ")


def table_lines(table: Table) -> list[str]:
    """Return the lines of a Markdown table with padded columns; numbers align right. A table without rows has no
    lines."""
    if not table.rows:
        return []
    widths = [max(len(cell) for cell in column) for column in zip(table.head, *table.rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            f"{cell:<{width}}" if i < table.words else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = (f"{'-' * (width + 1)}{'-' if i < table.words else ':'}" for i, width in enumerate(widths))
    return [line(table.head), f"|{'|'.join(rule)}|", *(line(row) for row in table.rows)]


def _event_lines(events: Table) -> list[str]:
    return bullets(
        f"Step {step}, {name}: {sentence.rstrip('.')}. Action: {did}." + (f" Numbers: {numbers}." if numbers else "")
        for step, name, sentence, numbers, did in events.rows
    )


def _pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    return bullets(f"{name}: {value}" for name, value in rows)


def _section(title: str, lines: Iterable[str]) -> list[str]:
    """Return a heading and its lines, or nothing where there are no lines."""
    body = list(lines)
    return ["", f"## {title}", "", *body] if body else []
