"""The matrix of backend, step and mode, printed at the end; a plugin of tests/conftest.py, for xdist prints there."""

from typing import Any

from support.world import MATRIX


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the matrix. With xdist too, which sends properties along with reports."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = [row for report in reports for name, row in report.user_properties if name == MATRIX]
    ours = [report for report in reports if "tests/teardown/" in report.nodeid and report.when == "call"]
    if not rows:
        return
    terminalreporter.section("teardown matrix")
    for backend, step, mode, outcome in sorted(rows):
        terminalreporter.write_line(f"{backend:<7} {step:<10} {mode:<26} {outcome}")
    terminalreporter.write_line(f"survived {sum(report.passed for report in ours)} of {len(ours)}")
