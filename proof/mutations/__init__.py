"""Faults put in on purpose: ``python -m proof.mutations``."""
