"""The documentation builds, strictly and offline, and loads nothing from another machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, name

REMOTE = re.compile(r"^(https?:)?//", re.I)
LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
}
NO_NETWORK = "http://127.0.0.1:9"  # the port "discard": a request fails at once


class Loads(HTMLParser):
    """Addresses that a browser loads by itself; links, which a person follows, are none."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.identifiers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.identifiers.append(found.get("id") or "")
        if tag in LOADING:
            self.addresses.append(found.get(LOADING[tag]) or "")
        if tag == "link" and found.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(found.get("href") or "")


def read(page: Path) -> Loads:
    loads = Loads()
    loads.feed(page.read_text())
    return loads


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": NO_NETWORK, "https_proxy": NO_NETWORK}
    # Not with --quiet, which hides warnings from --strict too.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    written = {page.relative_to(site).with_suffix(".md").as_posix() for page in site.rglob("*.html")}
    assert {name(page).removeprefix("docs/") for page in PAGES if name(page).startswith("docs/")} <= written


def test_nothing_is_loaded_from_another_machine(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15 and all(read(page).addresses for page in pages)
    remote = {f"{page.name}: {a}" for page in pages for a in read(page).addresses if REMOTE.match(a)}
    styles = [
        (sheet, re.findall(r"url\(['\"]?([^'\")]+)|@import ['\"]([^'\"]+)", sheet.read_text()))
        for sheet in site.rglob("*.css")
    ]
    assert styles
    remote |= {f"{sheet.name}: {a}" for sheet, found in styles for pair in found for a in pair if REMOTE.match(a)}
    assert not remote


@pytest.mark.parametrize(
    "markup", ['<script src="https://x/y.js">', '<img src="//x/y.png">', '<link rel="stylesheet" href="http://x">']
)
def test_a_remote_address_is_seen(markup: str) -> None:
    loads = Loads()
    loads.feed(markup)
    assert [bool(REMOTE.match(address)) for address in loads.addresses] == [True]


def test_the_reference_has_what_is_public(site: Path) -> None:
    """Made from the docstrings: an op that is exported has its entry."""
    from nerf_metal import ops

    identifiers = read(site / "api" / "ops.html").identifiers
    functions = [export for export in ops.__all__ if export.islower()]
    assert len(functions) > 10
    assert not [
        f for f in functions if not any(i.startswith("nerf_metal.ops.") and i.endswith(f".{f}") for i in identifiers)
    ]


def test_no_role_of_sphinx_is_left(site: Path) -> None:
    left = [page.name for page in site.rglob("*.html") if re.search(r":(func|class|meth|mod|attr):", page.read_text())]
    assert not left
