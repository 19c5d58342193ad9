"""How a training ends that is neither bad input nor a bug."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nerf_metal.train.run_folder import RunFolder


class TrainingStoppedError(RuntimeError):
    """The watchdog has stopped the run, or its folder cannot be written any more. One line, for a person."""


@contextlib.contextmanager
def folder_errors(folder: RunFolder) -> Iterator[None]:
    """Turn an error of the file system into a sentence about the run folder.

    Raises:
        TrainingStoppedError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        what = f"{error.strerror or error} ({error.filename or folder.path})"
        raise TrainingStoppedError(
            f"[train] the run folder must be writable, got {what}; "
            f"make room, then go on with: nerf-metal train --resume {folder.path}"
        ) from error
