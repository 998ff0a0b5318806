"""`pytest --no-skips`: what is missing on a user's machine may not be missing in CI."""

from __future__ import annotations

import pytest


class NoSkips:
    """Counts the tests that skip, and fails a run that has some."""

    def __init__(self, part: str) -> None:
        """`part`: of the ids of the tests that count."""
        self._part = part
        self.skipped: list[str] = []

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        counts = self._part in report.nodeid and not hasattr(report, "wasxfail")
        if report.skipped and counts:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            self.skipped.append(f"{report.nodeid}: {str(reason).removeprefix('Skipped: ')}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section(f"{len(self.skipped)} skipped, and none may (--no-skips)")
            for line in self.skipped:
                terminalreporter.line(line)
