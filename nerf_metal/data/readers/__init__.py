"""Readers of captures, one file a format."""
