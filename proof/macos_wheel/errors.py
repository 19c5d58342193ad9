"""What the tools raise for input that they cannot use; its text is one line."""

from __future__ import annotations


class ToolError(Exception):
    """A bad argument, or something missing on this machine."""


class UnreachableError(ToolError):
    """The package index does not answer: says nothing of the project."""
