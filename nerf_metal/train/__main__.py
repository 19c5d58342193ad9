"""Run ``nerf-metal train`` as ``python -m nerf_metal.train``."""

import sys

from nerf_metal.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
