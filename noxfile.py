"""The project's tasks as sessions: ``nox -s lint``. ``nox --no-venv -s lint`` uses the current environment."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "smoke"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True  # the extension takes two minutes to build


def _install(session: nox.Session) -> None:
    if session.virtualenv.is_sandboxed:  # with --no-venv everything is there
        session.install("-c", "constraints.txt", "-e", ".[dev]")


@nox.session
def lint(session: nox.Session) -> None:
    """Check lint, format, types and import floors."""
    _install(session)
    session.run("python", "-m", "tests", "lint")


@nox.session
def smoke(session: nox.Session) -> None:
    """Run one quick test of every room."""
    _install(session)
    session.run("python", "-m", "tests", "smoke")


@nox.session
def tests(session: nox.Session) -> None:
    """Run everything, or what the arguments behind ``--`` choose."""
    _install(session)
    session.run("python", "-m", "tests", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/."""
    _install(session)
    session.run("mkdocs", "build", "--strict")


@nox.session
def bench(session: nox.Session) -> None:
    """Race the host kernels against the references."""
    _install(session)
    session.run("python", "-m", "pytest", "benchmarks", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel into dist/ with warnings as errors."""
    _install(session)
    session.run("python", "-m", "pip", "wheel", "--no-deps", "-w", "dist", ".")
