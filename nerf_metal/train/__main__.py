"""Entry point of ``python -m nerf_metal.train``, which is the same as ``nerf-metal train``."""

import sys

from nerf_metal.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
