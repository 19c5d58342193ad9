"""Benchmarks of every op against its reference and against the usual torch code: ``python -m pytest benchmarks``."""
