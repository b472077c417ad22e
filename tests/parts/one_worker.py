"""The tests of one Docker daemon, one Slurm, one genai-bench, one control plane on one xdist worker: it starts once.

The tests on a control plane take as long as all others together: two control planes share them, one for those that
run whole trials, one for those of single steps. A plugin of tests/conftest.py. xdist has --dist=loadgroup for this,
which does not see its marks with pytest 9.2.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from support.places import ROOT

GROUPS = {
    "kube trials": re.compile(r"tests/live/kube/test_(bench|reap|sweep)|tests/teardown/.*(api_server|[\[-]ome[\]-])"),
    "kube steps": re.compile(r"tests/live/kube/"),
    "docker": re.compile(r"tests/live/docker/|tests/(contract|teardown)/.*(docker_daemon|[\[-]docker[\]-])"),
    "slurm": re.compile(r"tests/live/slurm/"),
    "vllm": re.compile(r"tests/live/vllm/"),
    "genai-bench": re.compile(r"tests/live/bench/"),
}


_ends: list[Callable[[], None]] = []  # what ends the fixtures that run while their group does, the first one first


def while_its_group_runs(request: pytest.FixtureRequest) -> None:
    """Called by a session's fixture: on a worker it ends with the last test of its group, not with the last of all.

    A control plane takes a tenth of a core as long as it is there, from the tests that others still run.
    """
    if hasattr(request.config, "workerinput"):
        fixture: Any = request  # pytest has no public word for a fixture's end before its scope's
        _ends.append(partial(fixture._fixturedef.finish, request))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """The last thing of each test."""
    yield
    if nextitem is None or _group(nextitem.nodeid) != _group(item.nodeid):
        while _ends:
            _ends.pop()()


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Every test by itself, as `load` does, but those, and the tests of a file that share what is made for the file."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        alone = path if _shares(path) else nodeid
        return _group(nodeid) or alone


def _group(nodeid: str) -> str | None:
    return next((name for name, ids in GROUPS.items() if ids.search(nodeid)), None)


@cache
def _shares(path: str) -> bool:
    return 'scope="module"' in (ROOT / path).read_text("utf-8")


def pytest_xdist_make_scheduler(config: Any, log: Any) -> Scheduling:
    """Called by xdist where there are workers."""
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With workers, what takes long begins first: those groups, then the other tests of real parts."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    live = len(GROUPS) + (not nodeid.startswith("tests/live/"))
    return next((rank for rank, ids in enumerate(GROUPS.values()) if ids.search(nodeid)), live)
