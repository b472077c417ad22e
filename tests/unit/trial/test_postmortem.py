"""What is left of a trial whose process is gone."""

from dataclasses import replace
from pathlib import Path

from pipeline.backends import lease
from pipeline.core.errors import FailureKind, JobEnded
from pipeline.core.files import RunDir, save
from pipeline.core.values import load, now
from pipeline.machine import identity
from pipeline.sweep import adoption
from pipeline.trial import postmortem
from pipeline.trial.story import Place
from support.records import make_failed_record, make_failure


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


def test_that_somebody_stopped_a_trial_is_more_than_its_scheduler_knows(tmp_path: Path) -> None:
    """The job of a trial that was stopped alone has ended as if nothing had happened."""
    alone = make_failure(kind=FailureKind.STOPPED, message="stopped by servetune stop")
    done = make_failed_record(status="interrupted", failure=alone)
    place = Place(sweep_id="s", number=0, overrides=(), run_dir=RunDir(tmp_path))
    save(place.run_dir.record, done)
    ended = JobEnded("Slurm job 7 ended as COMPLETED.", kind=FailureKind.WORKER_DIED)
    assert postmortem.write(place, done.config, ended, started_at=done.started_at) == done
    assert adoption.finished(place.run_dir) == done
