"""The one exception for a person's bad input."""


class InputError(ValueError):
    """Bad user input: an argument, a file or a folder that cannot be used as given.

    Every message reads ``[where] argument/file must be/have EXPECTED, got WHAT; what to do`` and is one line,
    so that the command line can print it as it is and exit with status 2. Line breaks in what is quoted (a
    file name, another library's message) become spaces.
    """

    def __init__(self, message: str) -> None:
        """Keep `message` as one line."""
        super().__init__(" ".join(message.splitlines()))
