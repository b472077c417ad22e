"""The process that talks to MLflow: `python -m pipeline.trackers.mlflow_publisher`, spoken to by `mlflow.py`.

Source: mlflow 3.17.2, tracking/client.py. Runs are made by the client, which adds nothing of its own: no user, no
command line, no commit.
"""

import fcntl
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.redact import MAX_FILE_BYTES, Secrets
from pipeline.core.values import from_json, load, plain, value
from pipeline.machine import companion
from pipeline.trackers import mlflow_content
from pipeline.trackers.jobs import Answer, Request, SweepJob, TrialJob
from pipeline.trackers.mlflow_content import Content

PARENT = "mlflow.parentRunId"  # https://mlflow.org/docs/latest/ml/traditional-ml/tutorials/hyperparameter-tuning
PLACE = "sweep.json"  # the sweep's own run
MOST = {"metrics": 1000, "params": 100, "tags": 100}  # at once
MAX_DATA_BYTES = 1_000_000_000
LONGEST_ERROR = 600


@value
class Place:
    """A sweep's own run: where it is."""

    server: str
    experiment: str
    run: str


def main() -> None:
    """Say `{"ready": true}`; answer each Request on stdin with an Answer."""
    companion.die_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what mlflow prints must not be taken for an answer
    mlflow = importlib.import_module("mlflow")
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(plain(answer(from_json(Request, line), mlflow))) + "\n")


def answer(request: Request, mlflow: Any) -> Answer:
    """Do it; how it went, in words."""
    secrets = Secrets(os.environ)
    try:
        return Answer(where=_publish(request.job, mlflow, secrets), is_online=True)
    except Exception as error:  # noqa: BLE001 - libraries raise what they like, and the words are the user's
        words = " ".join(str(secrets.hide(str(error))).split())[:LONGEST_ERROR]
        return Answer(error=f"MLflow did not take it: {type(error).__name__}: {words}", is_online=True)


def _publish(job: TrialJob | SweepJob, mlflow: Any, secrets: Secrets) -> str:
    client, server = mlflow.MlflowClient(), str(mlflow.get_tracking_uri())
    if isinstance(job, TrialJob):
        return _trial(job, client, server, secrets)
    return _sweep(job, client, server, secrets)


def _trial(job: TrialJob, client: Any, server: str, secrets: Secrets) -> str:
    """A new run; one that an earlier attempt has left is put away."""
    sweep, record = SweepDir(job.run_dir.parent), job.record
    place = _place(client, server, sweep, str(job.tracker.project))
    noted = sweep.mlflow_run(record.number)
    if noted.exists():
        with suppress(Exception):  # somebody has removed it
            client.delete_run(noted.read_text("utf-8"))
    content = mlflow_content.of_trial(record, RunDir(job.run_dir), secrets)
    content = replace(content, tags={**content.tags, PARENT: place.run})
    made = client.create_run(place.experiment, start_time=content.started_ms, run_name=content.name).info.run_id
    noted.parent.mkdir(parents=True, exist_ok=True)
    noted.write_text(made, "utf-8")
    _fill(client, made, content, secrets)
    return _where(server, place.experiment, made)


def _sweep(job: SweepJob, client: Any, server: str, secrets: Secrets) -> str:
    """The run that its trials are children of, told anew: what an earlier end has said of a winner is taken back."""
    sweep = SweepDir(job.sweep)
    place = _place(client, server, sweep, str(job.tracker.project))
    content = mlflow_content.of_sweep(job.result, sweep, secrets)
    there = client.get_run(place.run).data
    for name in there.tags:
        if name.startswith("best/") and name not in content.tags:
            client.delete_tag(place.run, name)
    new = {name: text for name, text in content.params.items() if name not in there.params}  # they cannot be changed
    _fill(client, place.run, replace(content, params=new), secrets)
    return _where(server, place.experiment, place.run)


def _place(client: Any, server: str, sweep: SweepDir, experiment: str) -> Place:
    """The sweep's own run, made by the first of its processes that publishes to this server."""
    with _alone(sweep):
        with suppress(OSError, ValueError):
            if (known := load(Place, sweep.mlflow / PLACE)).server == server:
                return known
        number = _experiment(client, experiment)
        run = client.create_run(number, run_name=f"sweep {sweep.path.name}").info.run_id
        made = Place(server=server, experiment=number, run=run)
        save(sweep.mlflow / PLACE, made)
        for path in sweep.mlflow_run(0).parent.glob("*"):  # of another server
            path.unlink()
        return made


def _experiment(client: Any, name: str) -> str:
    """Its id. Two sweeps may make it at once: the second finds the first's."""
    found = client.get_experiment_by_name(name)
    try:
        return str(found.experiment_id if found else client.create_experiment(name))
    except Exception:
        again = client.get_experiment_by_name(name)
        if again is None:
            raise
        return str(again.experiment_id)


@contextmanager
def _alone(sweep: SweepDir) -> Iterator[None]:
    """One process at a time; the lock dies with its holder."""
    sweep.mlflow.mkdir(parents=True, exist_ok=True)
    with (sweep.mlflow / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fill(client: Any, run: str, content: Content, secrets: Secrets) -> None:
    entities = importlib.import_module("mlflow.entities")
    at_ms = content.ended_ms or int(time.time() * 1000)
    told = {
        "metrics": [entities.Metric(one.name, one.number, at_ms, one.step) for one in content.points],
        "params": [entities.Param(*each) for each in content.params.items()],
        "tags": [entities.RunTag(*each) for each in content.tags.items()],
    }
    for kind, items in told.items():
        for some in _chunks(items, MOST[kind]):
            client.log_batch(run, **{kind: some})
    with tempfile.TemporaryDirectory() as scratch:
        if _stage(content, Path(scratch), secrets):
            client.log_artifacts(run, scratch)
    client.set_terminated(run, content.status, content.ended_ms)


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _stage(content: Content, folder: Path, secrets: Secrets) -> bool:
    """Redacted copies of what is uploaded; whether there are any."""
    for source, name in content.files:
        is_log = source.suffix == ".log"  # its end says most; half of a JSON file says nothing
        secrets.copy(source, folder / name, limit=MAX_FILE_BYTES if is_log else MAX_DATA_BYTES)
    return bool(content.files)


def _where(server: str, experiment: str, run: str) -> str:
    page = f"{server.rstrip('/')}/#/experiments/{experiment}/runs/{run}"
    return page if server.startswith("http") else f"run {run} in {server}"


if __name__ == "__main__":
    main()
