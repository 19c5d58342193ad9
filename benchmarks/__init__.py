"""Every op against its reference, and against what one would use in its stead: ``python -m pytest benchmarks``."""
