"""What a refusal must say, whatever its words: the op, the argument and what came, in one line."""

from __future__ import annotations

import re


def refusal(op: str, name: str, value: str) -> str:
    """Return a pattern of ``[op] ... name ... got ... value``, on one line; what to do may follow a semicolon."""
    named, came = (rf"(?<![\w.]){re.escape(text)}(?!\w|\.\d)" for text in (name, value))
    return rf"^\[{op}\] (?=[^\n]*{named})[^\n]*\bgot [^;\n]*{came}[^;\n]*(; [^\n]+)?\Z"
