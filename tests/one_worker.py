"""All tests with a Kubernetes control plane on one xdist worker: two of them leave two cores no time for anything else.

A plugin of tests/conftest.py. xdist has --dist=loadgroup for this, which does not see its marks with pytest 9.2.
"""

import re
from typing import Any

from xdist.scheduler import LoadScopeScheduling

KUBE = re.compile(r"tests/live/kube/|tests/teardown/.*[\[-]ome[\]-]")


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Every test by itself, as `load` does, but those."""

    def _split_scope(self, nodeid: str) -> str:
        return "kube" if KUBE.search(nodeid) else nodeid


def pytest_xdist_make_scheduler(config: Any, log: Any) -> Scheduling:
    """Called by xdist where there are workers."""
    return Scheduling(config, log)
