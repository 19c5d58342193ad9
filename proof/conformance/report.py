"""What the checker found: one line each, in the order of the text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Finding:
    """A place that Metal would refuse: which rule, what is there, what to do."""

    file: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}: [{self.rule}] {self.message}"


def shown(file: str) -> str:
    """A path as short as it can be from here."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def distinct(findings: list[Finding]) -> list[Finding]:
    """Sorted: of one rule on one line the first is enough, and of clang's own messages those that no rule names."""
    first = {(f.file, f.line, f.rule): f for f in reversed(findings)}
    named = {(f.file, f.line) for f in findings if f.rule != "clang"}
    return sorted(f for f in first.values() if f.rule != "clang" or (f.file, f.line) not in named)
