"""The tests of one Docker daemon, one Slurm, one genai-bench, one control plane on one xdist worker: it starts once.

The tests on a control plane take as long as all others together: two control planes share them, one for those that
run whole trials, one for those of single steps. A plugin of tests/conftest.py. xdist has --dist=loadgroup for this,
which does not see its marks with pytest 9.2.
"""

import re
from functools import cache
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


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Every test by itself, as `load` does, but those, and the tests of a file that share what is made for the file."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        alone = path if _shares(path) else nodeid
        return next((name for name, ids in GROUPS.items() if ids.search(nodeid)), alone)


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
