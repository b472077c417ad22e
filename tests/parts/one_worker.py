"""All tests with a Kubernetes control plane on one xdist worker, all with a Slurm on one: two of either are too much.

A plugin of tests/conftest.py. xdist has --dist=loadgroup for this, which does not see its marks with pytest 9.2.
"""

import re
from typing import Any

from xdist.scheduler import LoadScopeScheduling

KUBE = re.compile(r"tests/live/kube/|tests/teardown/.*[\[-]ome[\]-]")

SLURM = "tests/live/slurm/"


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Every test by itself, as `load` does, but those."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(SLURM):
            return "slurm"
        return "kube" if KUBE.search(nodeid) else nodeid


def pytest_xdist_make_scheduler(config: Any, log: Any) -> Scheduling:
    """Called by xdist where there are workers."""
    return Scheduling(config, log)
