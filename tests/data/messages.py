"""What every message about bad input must have; its wording is free."""

from __future__ import annotations


def check_message(error: Exception, names: str, got: str) -> None:
    """Check the form ``[where] NAME must be EXPECTED, got WHAT; what to do`` on one line.

    Args:
        error: the exception.
        names: what must be named before ``, got``: words divided by ``|``, such as a file, a frame, an argument.
        got: what must be named after it: the value that came.
    """
    message = str(error)
    expected, separator, rest = message.partition(", got ")
    assert separator and message.startswith("[") and "\n" not in message, message
    assert "; " in rest, f"it does not say what to do: {message}"
    assert [name for name in names.split("|") if name not in expected] == [], message
    assert got in rest, message
