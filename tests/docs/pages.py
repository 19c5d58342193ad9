"""Reading the pages that people read: their fenced blocks, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.M | re.S)
_INCLUDE = re.compile(r'^--8<-- "([^"]+)"$', re.M)
_INLINE = re.compile(r"(?<!`)`((?:nerf-metal|python -m|nox|--data|--preset) [^`\n]+)`(?!`)")
_ASSIGNMENT = re.compile(r"[A-Z_]+=.*")


class Block(NamedTuple):
    """One fenced block: the line of its opening fence, its language, and its text."""

    line: int
    language: str
    text: str


def name(page: Path) -> str:
    """Return the page's path in the repository: the id of its tests."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Return every fenced block of a page."""
    text = page.read_text()
    return [Block(text.count("\n", 0, m.start()) + 1, m[2].strip(), m[3]) for m in _FENCE.finditer(text)]


def included(text: str) -> str:
    """Return the text with the files that it includes in place of their names, as the built page has it."""
    return _INCLUDE.sub(lambda match: (ROOT / match[1]).read_text(), text)


def commands(text: str) -> list[tuple[str, ...]]:
    """Return the commands of a shell block as words, without comments, variables and the folder of the environment."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word != "&&":
                words.append(word.removeprefix(".venv/bin/"))
                continue
            while words and _ASSIGNMENT.fullmatch(words[0]):
                words.pop(0)
            if words:
                found.append(tuple(words))
            words = []
    return found


def inline_commands(page: Path) -> list[tuple[str, ...]]:
    """Return the commands that stand within sentences and tables. ``--data ...`` stands for ``nerf-metal train``."""
    prose = _FENCE.sub("", page.read_text())
    return [
        ("nerf-metal", "train", *words) if words[0].startswith("--") else words
        for text in _INLINE.findall(prose)
        for words in commands(text)
    ]
