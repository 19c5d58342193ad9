"""Saves for which there is no room: ``python -m tests.train.checkpoint.full_disk limit|fill FOLDER``.

Prints the error and the file of every save that failed, after each of which all was as before.
"""

import errno
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from tests.train.checkpoint.saving import SUFFIXES, contents, save, steps, trained, whole

LONG = {"remarks": "x" * 20_000}
"""So that the JSON is the largest of the three files, and the last to fit."""


def main(kind: str, folder: Path) -> None:
    """Fill the folder and save, again and again."""
    model, optimizer = trained()

    def attempt(step: int) -> None:
        save(folder, step, model, optimizer, psnr=20.0 - step, state=LONG)

    for step in (1, 2, 3):
        attempt(step)
    assert steps(folder) == [1, 2, 3]
    (limit if kind == "limit" else fill)(folder, lambda: attempt(4))
    assert steps(folder) == [1, 3, 4]


def fails(folder: Path, attempt: Callable[[], None]) -> bool:
    """Try; where it fails say so, and see that all is as it was."""
    before, largest = contents(folder), {}

    def watch(event: str, args: tuple) -> None:
        if event == "open" and str(args[0]).endswith(".tmp") and "w" in str(args[1]):
            largest["last"] = str(args[0])

    watchers.append(watch)
    try:
        attempt()
    except OSError as error:
        name = Path(largest["last"]).name.removesuffix(".tmp")
        suffix = next(s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s))
        print(f"{errno.errorcode[error.errno]}:{suffix}")
        assert contents(folder) == before
        assert (whole(folder).step, whole(folder, "best").step) == (3, 1)
        return True
    finally:
        watchers.clear()
    return False


watchers: list[Callable[[str, tuple], None]] = []
"""What hears of every file that is opened: audit hooks cannot be taken away again."""


def limit(folder: Path, attempt: Callable[[], None]) -> None:
    """Let no file be as large as the first, the second, the third of a checkpoint."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes = [(folder / f"step_00000003{suffix}").stat().st_size for suffix in (*SUFFIXES[1:], SUFFIXES[0])]
    assert sizes == sorted(sizes)
    for size in sizes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, unlimited[1]))
        assert fails(folder, attempt)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert not fails(folder, attempt)


def fill(folder: Path, attempt: Callable[[], None]) -> None:
    """Leave one page more from one try to the next."""
    page, filler = resource.getpagesize(), folder / "filler"
    left = 0
    while True:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        filler.write_bytes(bytes(free - left * page))
        if not fails(folder, attempt):
            break
        filler.unlink()
        left += 1
    filler.unlink()


if __name__ == "__main__":
    sys.addaudithook(lambda event, args: [watch(event, args) for watch in watchers])
    main(sys.argv[1], Path(sys.argv[2]))
