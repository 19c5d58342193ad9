"""What a full run must have run, whichever folder its tests are in."""

import os
from collections import Counter

import pytest

# By marker expression: a whole category skipped would leave a green run that shows nothing.
CATEGORIES = {
    "not slow": ("host_kernels", "metal_encoding", "strict", "conformance"),
    "slow": ("cross_build", "sanitizers", "cuda"),
}
_passed: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the tests that pass, by marker."""
    if report.when == "call" and report.passed:
        _passed.update(report.keywords.keys())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a category that must run had no test that passed."""
    wanted = CATEGORIES.get(session.config.option.markexpr, ())
    if session.config.option.markexpr == "slow" and session.config.args == ["tests"]:
        wanted = ()  # the other half of the slow tests, proof/, has all of these
    empty = [category for category in wanted if not _passed[category]]
    if empty and os.environ.get("CI"):  # else a selection by hand
        print(f"\nno test of these categories passed: {', '.join(empty)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
