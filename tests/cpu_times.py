"""CPU seconds of the dearest tests and files, processes that they start included.

``python -m pytest -p tests.cpu_times`` loads this plugin. Unlike ``--durations`` it counts what a test computes, not
how busy the machine is, so that figures of two days compare; it works under ``-n``.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Generator

import pytest

SHOWN = 40
_files: Counter[str] = Counter()
_tests: Counter[str] = Counter()


def _spent() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def _measured(item: pytest.Item, phase: str) -> Generator[None, None, None]:
    before = _spent()
    try:
        return (yield)
    finally:
        item.user_properties.append((f"cpu {phase}", _spent() - before))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    return (yield from _measured(item, "setup"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    return (yield from _measured(item, "call"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "teardown":  # the last report of a test holds what its phases took
        return
    seconds = sum(value for name, value in report.user_properties if name.startswith("cpu "))
    _tests[report.nodeid] += seconds
    _files[report.nodeid.partition("::")[0]] += seconds


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section(f"CPU seconds: {_tests.total():.0f} in {len(_tests)} tests")
    for title, table in (("files", _files), ("tests", _tests)):
        terminalreporter.write_line(f"dearest {title}")
        for name, seconds in table.most_common(SHOWN):
            terminalreporter.write_line(f"{seconds:8.2f}  {name}")
