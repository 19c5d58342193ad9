"""The exception for wrong input."""


class InputError(ValueError):
    """Wrong input by the user: an argument, a file or a folder that cannot be used as it is.

    A message has the form ``[where] argument must be EXPECTED, got WHAT; what to do``. It is one line, so that the
    command line prints it unchanged and exits with code 2. Line breaks in quoted text, such as a file name or the
    message of a library, become spaces.
    """

    def __init__(self, message: str) -> None:
        """Store `message` as one line."""
        super().__init__(" ".join(message.splitlines()))
