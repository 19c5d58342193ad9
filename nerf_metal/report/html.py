"""``report.html``: the report as one file to mail, with its style and its pictures inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from nerf_metal.report.cause import Cause
from nerf_metal.report.story import CERTAINTY, Report
from nerf_metal.report.style import STYLE
from nerf_metal.report.tables import Table

PICTURE_WIDTH = 760
"""Pixels of a quick render in the file: three of them and two plots stay below what mail servers take (10 MB)."""


def render_html(report: Report, plots: Sequence[Path]) -> str:
    """The text of ``report.html``."""
    parts = [
        f"<header><p class='what'>{escape(report.title)}</p>",
        f"<p class='verdict {report.status}'>{escape(report.verdict)}</p>",
        _tiles(report.key),
        "</header>",
        _section("Findings", _list(report.sentences)),
        _section("Most likely causes", _causes(report.causes)),
        _section("What to change", _list(report.changes)),
        _section("Not known", _list(report.unknown)),
        _section("Curves", "".join(_picture(path, path.stem.replace("_", " ")) for path in plots)),
        _section("Phases", _table(report.phase_table)),
        _section("Progress", _table(report.progress)),
        _section("Renders, prediction left, truth right", _renders(report.pictures)),
        _section("Layers at the last evaluation", _table(report.health)),
        _section("Watchdog", _table(report.events)),
        _section("Notes", _list(report.notes)),
        _section("Machine and versions", _pairs(report.machine)),
        _section("Options", "".join(f"<h3>{escape(group)}</h3>{_pairs(rows)}" for group, rows in report.options)),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(report.title)}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def _section(title: str, body: str) -> str:
    """A title over its body; nothing without a body."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _tiles(rows: Sequence[tuple[str, str]]) -> str:
    tiles = (f"<div><dt>{escape(name)}</dt><dd>{_first_bold(value)}</dd></div>" for name, value in rows)
    return f"<dl class='tiles'>{''.join(tiles)}</dl>" if rows else ""


def _first_bold(value: str) -> str:
    """The number and its unit large, the rest small."""
    words = value.split(" ")
    split = 2 if len(words) > 1 and words[1] in ("dB", "steps") else 1
    rest = " ".join(words[split:])
    return f"<b>{escape(' '.join(words[:split]))}</b>{f'<small>{escape(rest)}</small>' if rest else ''}"


def _list(items: Iterable[str]) -> str:
    rows = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{rows}</ul>" if rows else ""


def _causes(causes: Sequence[Cause]) -> str:
    rows = (
        f"<li><b>{escape(cause.sentence)}</b> <span class='tag {cause.certainty.name.lower()}'>"
        f"{CERTAINTY[cause.certainty]}</span>{_list(cause.evidence)}</li>"
        for cause in causes
    )
    return f"<ol class='causes'>{''.join(rows)}</ol>" if causes else ""


def _table(table: Table) -> str:
    if not table.rows:
        return ""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{'' if i < table.words else ' class=n'}>{escape(cell)}</{tag}>" for i, cell in enumerate(row)
        )

    body = "".join(f"<tr class='{escape(row[0])}'>{cells('td', row)}</tr>" for row in table.rows)
    return (
        f"<div class='wide'><table><thead><tr>{cells('th', table.head)}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _pairs(rows: Sequence[tuple[str, str]]) -> str:
    pairs = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    return f"<dl class='pairs'>{''.join(pairs)}</dl>"


def _renders(pictures: Sequence[tuple[str, Path]]) -> str:
    figures = "".join(_picture(path, caption, PICTURE_WIDTH) for caption, path in pictures)
    return f"<div class='renders'>{figures}</div>" if figures else ""


def _picture(path: Path, caption: str, width: int | None = None) -> str:
    """The picture inside the text; nothing where the file cannot be read (a run may be writing it)."""
    try:
        data = path.read_bytes() if width is None else _shrunk(path, width)
    except (OSError, ValueError):
        return ""
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return f"<figure><img alt='{escape(caption)}' src='{source}'><figcaption>{escape(caption)}</figcaption></figure>"


def _shrunk(path: Path, width: int) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as picture:
        factor = min(1.0, width / picture.width)
        size = (round(picture.width * factor), round(picture.height * factor))
        picture.resize(size, Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
