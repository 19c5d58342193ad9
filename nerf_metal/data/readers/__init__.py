"""Readers of captures: one file for each format, and the protocol that they share.

To add a format, write one file here and add one line to the table ``READERS`` in :mod:`nerf_metal.data.load`. The file
defines a :class:`nerf_metal.data.readers.reader.Reader`; its docstring says what a reader gets and returns.
"""
