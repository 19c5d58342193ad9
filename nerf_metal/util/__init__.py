"""Errors, files, text, geometry: used everywhere, knows nothing of NeRFs."""
