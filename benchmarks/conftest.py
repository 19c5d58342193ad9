"""Fixtures of the benchmarks: collect the results of the races and print them at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import machine
from benchmarks.race import Contest, Result, run_race
from benchmarks.table import LEGEND, table
from nerf_metal.models.memory import keep_freed_memory

_RESULTS = pytest.StashKey[list[Result]]()
_LOAD = pytest.StashKey[float]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = []
    config.stash[_LOAD] = machine.load()
    keep_freed_memory()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of a benchmark for all ``CASES`` of its module, unless it names cases itself."""
    own = (mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "contest" in metafunc.fixturenames and not any("contest" in names for names in own):
        metafunc.parametrize("contest", metafunc.module.CASES, ids=str, indirect=True)


@pytest.fixture(scope="module")
def contest(request: pytest.FixtureRequest) -> Contest:
    """Build the contest of a case by the function ``build`` of its module."""
    built: Contest = request.module.build(request.param)
    return built


@pytest.fixture
def race(pytestconfig: pytest.Config) -> Callable[[Contest], None]:
    """Run a contest and keep its result for the table."""

    def run(contest: Contest) -> None:
        pytestconfig.stash[_RESULTS].append(run_race(contest))

    return run


@pytest.hookimpl(trylast=True)  # pytest-benchmark's own table comes first
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = config.stash[_RESULTS]
    if not results:
        return
    terminalreporter.section("races")
    lines = [*LEGEND, *machine.describe(config.stash[_LOAD])]
    for stem in dict.fromkeys(result.contest.stem for result in results):
        lines += ["", *table(stem, [r for r in results if r.contest.stem == stem], machine.copy_bandwidth())]
    for line in lines:
        terminalreporter.write_line(line)
