"""Where the real captures lie, which their licences keep out of the package."""

from __future__ import annotations

from pathlib import Path

import pytest

CAPTURES = Path(__file__).parents[3] / "shared" / "data"


def capture_folder(name: str) -> Path:
    """Return the folder of a real capture. Where it is missing, skip the test and name the folder looked for."""
    folder = CAPTURES / name
    if not folder.is_dir():
        pytest.skip(f"the capture {name} is not there (looked for {folder}): its licence keeps it out of the package")
    return folder
