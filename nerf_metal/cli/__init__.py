"""The command ``nerf-metal``: one word for what to do, then that command's options.

Each command imports what it needs when it is called, so that help comes at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import nerf_metal
from nerf_metal.util.errors import InputError

COMMANDS = {
    "train": "train a NeRF on a folder of posed images, or on the scene of the package",
    "inspect": "say what a folder of images holds, with a picture of its cameras and likely mistakes",
    "render": "write a run's pictures and films: its views, an orbit, a spiral, a path of your own",
    "eval": "measure a run on its test views",
    "export": "write a run's mesh or point cloud in the capture's coordinates",
    "view": "move through a run in a web page",
    "report": "say what a run did and why: SUMMARY.md, report.html, plots",
    "make-scene": "write the scene of the package as a NeRF-synthetic folder",
    "presets": "show the presets side by side, differences marked",
    "doctor": "say what this machine can do, and what to do about the rest",
}
USAGE = "usage: nerf-metal COMMAND [OPTIONS]"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
SPIN_COUNT = "1000"
"""How long torch's OpenMP threads (GNU's, on Linux) spin for each other before they sleep. By default they
spin so long that one other busy process on two cores slows training tenfold (8 600 to 830 rays/s); with this
it is 3 500, and an idle machine is as fast as before."""


def main(args: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0, 2 for bad input (one line on stderr), 130 for Ctrl-C.

    Args:
        args: words after ``nerf-metal``; None takes them from the command line.
    """
    words = list(sys.argv[1:] if args is None else args)
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read once, when torch is imported
    try:
        if not words or words[0] in ("-h", "--help"):
            print(_help())
            return 0
        if words[0] == "--version":
            print(nerf_metal.__version__)
            return 0
        if words[0] not in COMMANDS:
            raise InputError(
                f"[nerf-metal] the command must be one of {', '.join(COMMANDS)}, got {words[0]}; "
                "nerf-metal --help says what they do"
            )
        command = importlib.import_module(f"nerf_metal.cli.{words[0].replace('-', '_')}")
        code: int = command.run(words[1:])
        return code
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _help() -> str:
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            *(USAGE, "", "Train NeRFs with PyTorch on a Mac, and anywhere else.", "", *lines),
            *("", "nerf-metal COMMAND --help shows a command's options; --version the version."),
        ]
    )
