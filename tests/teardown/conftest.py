"""The server of broken pipelines; the matrix of step and mode, printed at the end."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from teardown.world import MATRIX, Launch, Tell, Trial, Zygote, begin


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    served = Zygote()
    yield served
    served.close()


@pytest.fixture
def launch(zygote: Zygote, tmp_path: Path, tiny_gguf: Path) -> Launch:
    """Start a pipeline in a folder of its own: overrides, faults=..., env=..., constants=..."""

    def start(*overrides: str, **given: Any) -> Trial:
        return begin(zygote, tmp_path, tiny_gguf, *overrides, **given)

    return start


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Put a line into the matrix."""

    def say(step: str, mode: str, outcome: str) -> None:
        record_property(MATRIX, (step, mode, outcome))

    return say


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the matrix. With xdist too, which sends properties along with reports."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = [(row, report.passed) for report in reports for name, row in report.user_properties if name == MATRIX]
    ours = [report for report in reports if "tests/teardown/" in report.nodeid and report.when == "call"]
    if not rows:
        return
    terminalreporter.section("teardown matrix")
    for (step, mode, outcome), _passed in rows:
        terminalreporter.write_line(f"{step:<10} {mode:<26} {outcome}")
    terminalreporter.write_line(f"survived {sum(report.passed for report in ours)} of {len(ours)}")
