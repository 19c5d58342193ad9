"""The command ``nerf-metal``: the name of a command, then the options of that command.

Each command imports what it needs when it is called, so that help appears at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import nerf_metal
from nerf_metal.util.errors import InputError
from nerf_metal.util.pipes import guarded_streams

COMMANDS = {
    "train": "train a NeRF on a folder of photographs or on the built-in scene",
    "inspect": "check a folder of photographs before training; draw its cameras",
    "render": "render pictures and films of a trained run",
    "eval": "measure the quality of a run on its test views",
    "export": "export a mesh or a point cloud from a run",
    "view": "look at a run in a web browser, from any side",
    "report": "explain what happened in a run, with plots",
    "make-scene": "write the built-in scene as a folder in NeRF-synthetic format",
    "presets": "compare the options that presets set",
    "doctor": "check what this machine can run, and say how to add the rest",
}
USAGE = "usage: nerf-metal COMMAND [OPTIONS]"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
SPIN_COUNT = "1000"
"""How often torch's OpenMP threads (GNU OpenMP, on Linux) check for work before they sleep. With the default, one other
busy process on two cores slows training tenfold (from 8 600 to 830 rays/s). With this value, training reaches
3 500 rays/s there, and an idle machine is as fast as before."""


def main(args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    The code is 0 for success and 2 for bad input (one line on stderr); ``train`` and ``doctor`` also return 1 for a run
    or a check that failed. Ctrl-C gives 130, and output whose reader has left (``nerf-metal presets | head -1``) gives
    141, as shells report programs that SIGINT and SIGPIPE ended.

    Args:
        args: the words after ``nerf-metal``; None takes them from the command line.

    Raises:
        SystemExit: the parser printed help or refused an option, or the output's reader has left.
    """
    words = list(sys.argv[1:] if args is None else args)
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read once, when torch is imported
    with guarded_streams():
        try:
            return _run(words)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED


def _run(words: list[str]) -> int:
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


def _help() -> str:
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            *(USAGE, "", "Train NeRFs with PyTorch, on a Mac and elsewhere.", "", *lines),
            *("", "nerf-metal COMMAND --help lists the options of a command."),
            "nerf-metal --version prints the version.",
        ]
    )
