"""Run ``nerf-metal`` as ``python -m nerf_metal``."""

import sys

from nerf_metal.cli import main

if __name__ == "__main__":
    sys.exit(main())
