"""The error that ends a run which failed for a reason other than bad input or a bug."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nerf_metal.train.run_folder import RunFolder


class TrainingStoppedError(RuntimeError):
    """Error raised when the watchdog stops a run or when the run folder cannot be written.

    The message is one line that tells a person what happened and what to do.
    """


@contextlib.contextmanager
def folder_errors(folder: RunFolder) -> Iterator[None]:
    """Turn an error of the file system into a sentence about the run folder.

    Args:
        folder: run folder that the sentence names.

    Raises:
        TrainingStoppedError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        what = f"{error.strerror or error} ({error.filename or folder.path})"
        raise TrainingStoppedError(
            f"[train] the run folder must be writable, got {what}; "
            f"free some disk space, then continue with: nerf-metal train --resume {folder.path}"
        ) from error
