"""The macOS wheel, built on another system: ``python -m proof.macos_wheel``.

It proves that every line compiles for macOS 14 on arm64 without a warning, and that the extension then loads: each
symbol it needs is exported by CPython, or imported from the same system library by torch's own libraries, without which
nothing here runs. It proves nothing of what runs: no Mac has executed this wheel, Metal has not compiled its shaders,
and its headers are zig's copy of Apple's, and Linux's pyconfig.h. On a Mac, build your own: ``pip install .``.

The C++ runtime is macOS's libc++, as torch's is. A static copy inside would need no symbol of it, but pybind11 hands
exceptions and tables between the modules of a process, which two C++ runtimes would not recognise as the same.
"""


class ToolError(Exception):
    """A bad argument, or something missing on this machine; the text is one line."""


class UnreachableError(ToolError):
    """The package index does not answer: says nothing of the project."""
