"""A test may be skipped only for a reason that allowed_skips.txt lists: any other skip fails it.

pytest's summary (-ra in pyproject.toml) names every skip with its reason at the end of a run.
"""

import re
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import pytest

FILE = Path(__file__).with_name("allowed_skips.txt")
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
ALLOWED = [re.compile(line) for line in FILE.read_text("utf-8").splitlines() if line and not line.startswith("#")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _checked((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _checked((yield))


def _checked(report: Report) -> Report:
    if report.skipped and isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        reason = reason.removeprefix("Skipped: ")
        if not any(pattern.match(reason) for pattern in ALLOWED):
            report.outcome = "failed"
            report.longrepr = f"{path}:{line}: skipped for a reason that {FILE.name} does not list: {reason}"
    return report
