"""``python -m nerf_metal`` is ``nerf-metal``."""

import sys

from nerf_metal.cli import main

if __name__ == "__main__":
    sys.exit(main())
