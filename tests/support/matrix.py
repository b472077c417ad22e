"""The matrix of backend, step and mode: which of its cases run, and the table of what became of them.

A plugin of tests/conftest.py, for xdist prints there. A case of the matrix is a test that tells its line (`tell`), in
a test function that runs on several backends; what runs on one only is no repetition, and always runs.
"""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

MATRIX = "matrix"  # the property of a test that holds its line
LEFT_OUT = "matrix_left_out"  # node ids, from a worker of xdist to its controller
ANY_BACKEND = "any_backend: one backend suffices: the case breaks code that knows none (tests/support/selection.py)"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--matrix`."""
    parser.addoption(
        "--matrix",
        choices=("selection", "full"),
        default="selection",
        help="teardown matrix: the cases that together exercise what all do (default), or all of them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line("markers", ANY_BACKEND)


@pytest.hookimpl(trylast=True)  # after -k and -m: the selection stands for what they left
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the cases that others make needless; not those that somebody has named."""
    if config.option.matrix == "full" or any("::" in word for word in config.args):
        return
    left_out = set(needless(items))
    if not left_out:
        return
    items[:] = [item for item in items if item not in left_out]
    if hasattr(config, "workeroutput"):  # xdist tells its controller nothing of what a worker deselects
        config.workeroutput[LEFT_OUT] = sorted(item.nodeid for item in left_out)
    else:
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Report what the workers have deselected, once: all of them deselect the same."""
    left_out = getattr(node, "workeroutput", {}).get(LEFT_OUT)
    stats = node.config.pluginmanager.get_plugin("terminalreporter").stats
    if left_out and not stats.get("deselected"):
        node.config.hook.pytest_deselected(items=[SimpleNamespace(nodeid=each) for each in left_out])


def needless(items: list[pytest.Item]) -> list[pytest.Item]:
    """The cases of the matrix that the selection does without."""
    homes = defaultdict(set)
    found = [item for item in items if isinstance(item, pytest.Function) and _is_case(item)]
    for item in found:
        homes[item.function].add(item.callspec.params["place"])
    found = [item for item in found if len(homes[item.function]) > 1]
    if not found:
        return []
    from support import selection  # imports the pipeline, which other tests may not need

    cases = [selection.case(_way(item), item.callspec.params, any_backend=_any_backend(item)) for item in found]
    chosen = selection.choose(cases)
    return [item for number, item in enumerate(found) if number not in chosen]


def _is_case(item: pytest.Function) -> bool:
    return "tell" in item.fixturenames and hasattr(item, "callspec") and "place" in item.callspec.params


def _way(item: pytest.Function) -> str:
    return item.nodeid.partition("[")[0]


def _any_backend(item: pytest.Function) -> bool:
    return item.get_closest_marker("any_backend") is not None


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
    if terminalreporter.config.option.matrix != "full":
        terminalreporter.write_line("a selection of the matrix; all of it: make matrix")
