"""Fixtures: a real Slurm of the tests' own, one for all tests of a worker."""

import os
import shutil
from collections.abc import Iterator

import pytest

from parts import lacking
from parts.slurm import TOOLS, Cluster, running
from pipeline.machine import process

SETTLE_S = 240.0


@pytest.fixture(scope="session")
def needs_slurm() -> None:
    """Skip where none can be started; fail where CI says that one can."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in TOOLS if shutil.which(name, path=path) is None]
    reasons = [f"not installed: {', '.join(missing)}"] if missing else []
    reasons += ["only root can start a Slurm"] if os.geteuid() != 0 else []
    if reasons:
        lacking(*reasons)


@pytest.fixture(scope="session")
def slurm_cluster(needs_slurm: None) -> Iterator[Cluster]:
    """The worker's Slurm; tests ask for `slurm`."""
    with running() as started:
        yield started


@pytest.fixture
def slurm(slurm_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The Slurm, SLURM_CONF naming it. A test may break its node, but leave no job behind."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_cluster.conf))
    yield slurm_cluster
    left = slurm_cluster.jobs
    slurm_cluster.restore()
    assert process.wait_until(lambda: slurm_cluster.is_idle, timeout_s=SETTLE_S, interval_s=0.2), slurm_cluster.logs
    assert not left, f"left behind: {left}"
