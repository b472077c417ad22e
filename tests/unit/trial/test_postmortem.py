"""What is left of a trial whose process is gone."""

from dataclasses import replace
from pathlib import Path

from pipeline.backends import lease
from pipeline.core.files import RunDir
from pipeline.core.values import load, now
from pipeline.machine import identity
from pipeline.trial import postmortem


def owned(folder: Path, backend: str) -> RunDir:
    """The folder of a trial that a process of another machine has left."""
    folder.mkdir()
    lease.update(
        lease.Lease(
            label="left-0",
            backend=backend,
            owner=replace(identity.of(), host="node7", pid=2),
            run_dir=folder,
            created_at=now(),
            stop_grace_s=1,
            host="127.0.0.1",
        )
    )
    return RunDir(folder)


def test_a_container_of_another_machine_is_not_called_gone(tmp_path: Path) -> None:
    run_dir = owned(tmp_path / "0", "pipeline.backends.docker.Docker")
    seen = postmortem.tear_down(run_dir)
    assert seen is not None
    assert not seen.is_clean
    assert seen.error == "it ran on node7: run python -m pipeline.reap on that host"
    assert load(lease.Lease, lease.registered("left-0")).released == seen


def test_processes_of_another_machine_end_with_their_job(tmp_path: Path) -> None:
    seen = postmortem.tear_down(owned(tmp_path / "0", "pipeline.backends.local.Local"))
    assert seen is not None
    assert seen.is_clean
