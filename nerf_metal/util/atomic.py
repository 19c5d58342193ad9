"""Files that exist completely or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a file so that readers see the old content or the whole new content, even after a power failure.

    Args:
        path: of the file. It keeps its content if anything fails.
        write: fills the temporary file whose path it is given. That file lies beside `path`; it is flushed to the drive
            and then renamed.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the file is in place; not every system syncs folders
        _sync(path.parent)


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file as :func:`write_atomically` does.

    Raises:
        ValueError: a number in `value` is not finite, which JSON cannot express.
    """
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda to: to.write_text(text, encoding="utf-8"))


def sweep_temporaries(folder: Path) -> None:
    """Delete the temporary files in ``folder`` that a killed process left behind in :func:`write_atomically`."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
