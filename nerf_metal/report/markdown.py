"""``SUMMARY.md``: the report for a terminal of 80 columns, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nerf_metal.report.cause import Cause
from nerf_metal.report.story import CERTAINTY, Report
from nerf_metal.report.tables import Table
from nerf_metal.util.text import wrap


def render_markdown(report: Report, plots: Sequence[str]) -> str:
    """The text of ``SUMMARY.md``; ``plots`` are names of files beside it."""
    lines = [f"# {report.title}", "", *wrap(f"**{report.verdict}**")]
    if report.key:
        lines += ["", *table_lines(Table(("", ""), report.key, words=2))]
    lines += _section("Findings", bullets(report.sentences))
    lines += _section("Most likely causes", cause_lines(report.causes))
    lines += _section("What to change", bullets(report.changes))
    lines += _section("Not known", bullets(report.unknown))
    lines += _section("Phases", table_lines(report.phase_table))
    lines += _section("Progress", table_lines(report.progress))
    pictures = [(caption, path.name) for caption, path in report.pictures[-1:]]
    pictures = [*((name.removesuffix(".png").replace("_", " "), name) for name in plots), *pictures]
    lines += _section("Pictures", [f"![{caption}]({name})" for caption, name in pictures])
    lines += _section("Layers at the last evaluation", table_lines(report.health))
    lines += _section("Watchdog", _event_lines(report.events))
    lines += _section("Notes", bullets(report.notes))
    lines += _section("Machine and versions", _pairs(report.machine))
    options = (f"{group}: {', '.join(f'{name} {value}' for name, value in rows)}" for group, rows in report.options)
    lines += _section("Options", bullets(options))
    return "\n".join(lines) + "\n"


def gist(report: Report) -> str:
    """Verdict, findings, phases and causes for a terminal."""
    lines = [*wrap(report.verdict), ""]
    rest = bullets(report.sentences[1:])  # the first is in the verdict
    lines += [*rest, ""] if rest else []
    lines += [*table_lines(report.phase_table), ""] if report.phases else []
    if report.causes:
        lines += ["Most likely causes:", *cause_lines(report.causes), ""]
        lines += ["What to change:", *bullets(report.changes), ""]
    lines += ["Not known:", *bullets(report.unknown), ""] if report.unknown and report.status != "good" else []
    return "\n".join(lines)


def bullets(items: Iterable[str]) -> list[str]:
    """A list."""
    return [line for item in items for line in wrap(item, "- ")]


def cause_lines(causes: Sequence[Cause]) -> Iterator[str]:
    """Causes by rank, each with its certainty and its evidence."""
    for rank, cause in enumerate(causes, 1):
        yield from wrap(f"{cause.sentence} ({CERTAINTY[cause.certainty]}).", f"{rank}. ")
        for sentence in cause.evidence:
            yield from wrap(sentence, "   - ")


def table_lines(table: Table) -> list[str]:
    """A table with its columns padded, numbers to the right; nothing without rows."""
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
        f"step {step}, {name}: {sentence.rstrip('.')}. Done: {did}." + (f" Measured: {numbers}." if numbers else "")
        for step, name, sentence, numbers, did in events.rows
    )


def _pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    return bullets(f"{name}: {value}" for name, value in rows)


def _section(title: str, lines: Iterable[str]) -> list[str]:
    """A title over lines; nothing without lines."""
    body = list(lines)
    return ["", f"## {title}", "", *body] if body else []
