"""``report.html``: the report as one file that can be mailed, with its style sheet and its pictures inside.

The page's text is ``templates/report.html.jinja``; this module prepares what the template prints.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from nerf_metal.report.contents import CERTAINTY, Report

if TYPE_CHECKING:
    from jinja2 import Template

RENDER_WIDTH = 760
"""Width of a quick render in the file, pixels: three renders and two plots stay below what mail servers take (10
MB)."""


class Tile(NamedTuple):
    """A key number of the page's head.

    Attributes:
        name: what the number is.
        number: the number with its unit, printed large.
        rest: the remaining words, printed small; may be empty.
    """

    name: str
    number: str
    rest: str


class Figure(NamedTuple):
    """A picture inside the page.

    Attributes:
        caption: the words under the picture.
        source: the PNG file as a ``data:`` address.
    """

    caption: str
    source: str


def render_html(report: Report, plots: Iterable[tuple[str, Path]]) -> str:
    """Return the text of ``report.html``.

    Args:
        report: what the page says.
        plots: captions and PNG files of the curves. A file that cannot be read is left out.
    """
    return _template().render(
        report=report,
        certainty=CERTAINTY,
        tiles=[_tile(name, value) for name, value in report.key],
        curves=list(_figures(plots)),
        renders=list(_figures(report.pictures, RENDER_WIDTH)),
    )


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # only when a report is written

    # Text from a run folder must never become markup, and a misspelled name must not print as nothing.
    loader = PackageLoader("nerf_metal.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("report.html.jinja")


def _tile(name: str, value: str) -> Tile:
    words = value.split(" ")
    split = 2 if len(words) > 1 and words[1] in ("dB", "steps") else 1
    return Tile(name, " ".join(words[:split]), " ".join(words[split:]))


def _figures(pictures: Iterable[tuple[str, Path]], width: int | None = None) -> Iterator[Figure]:
    """Read captioned pictures and shrink them to a width. Skip files that cannot be read: a run may be writing them."""
    for caption, path in pictures:
        try:
            data = path.read_bytes() if width is None else _shrunk(path, width)
        except (OSError, ValueError):
            continue
        yield Figure(caption, f"data:image/png;base64,{base64.b64encode(data).decode()}")


def _shrunk(path: Path, width: int) -> bytes:
    """Return a PNG of at most this width, pixels."""
    buffer = io.BytesIO()
    with Image.open(path) as picture:
        factor = min(1.0, width / picture.width)
        size = (round(picture.width * factor), round(picture.height * factor))
        picture.resize(size, Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
