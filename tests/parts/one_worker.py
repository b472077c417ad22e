"""The tests of one Docker daemon, of one Slurm, of one control plane on one xdist worker each: a part starts once.

The tests on a control plane take as long as all others together: two control planes share them, one for those that
run whole trials, one for those of single steps. A plugin of tests/conftest.py. xdist has --dist=loadgroup for this,
which does not see its marks with pytest 9.2.
"""

import re
from typing import Any

from xdist.scheduler import LoadScopeScheduling

GROUPS = {
    "kube trials": re.compile(r"tests/live/kube/test_(bench|reap|sweep)|tests/teardown/.*(api_server|[\[-]ome[\]-])"),
    "kube steps": re.compile(r"tests/live/kube/"),
    "docker": re.compile(r"tests/live/docker/|tests/(contract|teardown)/.*(docker_daemon|[\[-]docker[\]-])"),
    "slurm": re.compile(r"tests/live/slurm/"),
}


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Every test by itself, as `load` does, but those."""

    def _split_scope(self, nodeid: str) -> str:
        return next((name for name, ids in GROUPS.items() if ids.search(nodeid)), nodeid)


def pytest_xdist_make_scheduler(config: Any, log: Any) -> Scheduling:
    """Called by xdist where there are workers."""
    return Scheduling(config, log)
