"""MLflow: a run per sweep in an experiment, with a child run per trial.

This side does not import mlflow: it sends each record to a separate process (`mlflow_publisher.py`), which can be ended
when a server never answers. What is not sent waits: `servetune sync` sends it by its record.
"""

import os
import shlex
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

from pipeline.core import schema
from pipeline.core.errors import TrackerFailed
from pipeline.core.files import RunDir, SweepDir
from pipeline.core.record import Record
from pipeline.core.values import parse, plain
from pipeline.machine.companion import Companion
from pipeline.trackers import away
from pipeline.trackers.jobs import Answer, Request, SweepJob, TrialJob
from pipeline.trackers.result import SweepResult

URI = "MLFLOW_TRACKING_URI"
SHARE = 0.5  # of tracker.timeout_s: what a command waits in all for a server that never answers
READY_S = 60.0  # at least, for importing mlflow: no server is waited for there
SWEEP = "sweep"  # what waits, if it is no trial
QUIET = {  # unless the user has set them; https://mlflow.org/docs/latest/api_reference/python_api/mlflow.environment_variables.html
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class MLflow:
    """Publishes each record as a child of its sweep's run."""

    def __init__(self) -> None:
        self.publisher: Companion | None = None
        self.is_ready = False

    def outlook(self, config: schema.Tracker) -> str:
        """To the server of MLFLOW_TRACKING_URI, or to none; see trackers.Tracker."""
        if is_online(config):
            return f"records go to {environment(os.environ)[URI]}"
        why = "tracker.mode=offline" if config.mode == "offline" else f"{URI} is not set"
        return f"{why}: nothing is sent, records wait for servetune sync"

    def start(self, config: schema.Tracker, run_dir: RunDir) -> None:
        """Start the process that publishes; it imports mlflow, which takes seconds."""
        sweep = SweepDir(run_dir.path.resolve().parent)
        if is_online(config) and not away.is_marked(sweep.mlflow_away):
            self._start(sweep)

    def wait_ready(self, *, timeout_s: float) -> None:
        """Wait until mlflow is imported."""
        if self.publisher and not self.is_ready:
            self.is_ready = self.publisher.answer(timeout_s=timeout_s) is not None

    def publish(self, record: Record, config: schema.Tracker, run_dir: RunDir) -> str | None:
        """Publish; see trackers.Tracker. None: it waits for `servetune sync`."""
        path = run_dir.path.resolve()
        return self._do(TrialJob(record=record, tracker=config, run_dir=path), SweepDir(path.parent), record.number)

    def publish_sweep(self, result: SweepResult, config: schema.Tracker, sweep: SweepDir) -> tuple[str, ...]:
        """Publish the sweep's own run; see trackers.Tracker."""
        folder = SweepDir(sweep.path.resolve())
        job = SweepJob(what="run", result=result, tracker=config, sweep=folder.path)
        where = self._do(job, folder, SWEEP)
        told = (f"MLflow: {where}",) if where else ()
        return (*told, *waiting_line(folder))

    def close(self) -> None:
        """End the publisher."""
        publisher, self.publisher, self.is_ready = self.publisher, None, False
        if publisher:
            publisher.close()

    def _start(self, sweep: SweepDir) -> None:
        if self.publisher and self.publisher.is_alive:
            return
        self.close()
        sweep.tracker_log.parent.mkdir(parents=True, exist_ok=True)
        env = environment(os.environ)
        self.publisher = Companion("pipeline.trackers.mlflow_publisher", log=sweep.tracker_log, env=env)

    def _do(self, job: TrialJob | SweepJob, sweep: SweepDir, what: int | str) -> str | None:
        """Send it; where it is then. None: it waits.

        Raises:
            TrackerFailed: the server was found away now, or cannot be asked; what is to be done is in the message.
        """
        try:
            _wait(sweep, what)
            if not is_online(job.tracker) or away.is_marked(sweep.mlflow_away):
                return None
            answer, why = self._asked(job, sweep)
        except OSError as error:
            raise TrackerFailed(f"MLflow could not be started: {error.strerror or error}.") from error
        except _AwayError:  # for another process of this command
            self.close()
            return None
        except BaseException:
            self.close()  # broken off: what it is at must not go on
            raise
        if answer is not None and answer.error is None:
            sweep.mlflow_waiting(what).unlink(missing_ok=True)
            return answer.where
        self.close()
        if not away.mark(sweep.mlflow_away):
            return None
        raise TrackerFailed(
            f"{why.rstrip('.')}. From now on nothing of this sweep is sent. To send it later: "
            f"servetune sync {shlex.quote(str(sweep.path))}",
            hint=f"Check {URI}, and MLFLOW_TRACKING_TOKEN or MLFLOW_TRACKING_USERNAME and _PASSWORD.",
        )

    def _asked(self, job: TrialJob | SweepJob, sweep: SweepDir) -> tuple[Answer | None, str]:
        """What became of it; if it is not there, why."""
        self._start(sweep)
        self.wait_ready(timeout_s=max(job.tracker.timeout_s, READY_S))
        patience_s = job.tracker.timeout_s * SHARE
        if not self.is_ready or self.publisher is None:
            return None, f"mlflow could not be imported; see {sweep.tracker_log}"
        self.publisher.send(plain(Request(job=job, patience_s=patience_s)))
        told = self.publisher.answer(timeout_s=patience_s, watch=lambda: _look(sweep))
        if told is None:
            limit = f"waited {patience_s:g} s, tracker.timeout_s={job.tracker.timeout_s:g}"
            how = "did not answer in time" if self.publisher.is_alive else "could not be told: its process ended"
            return None, f"MLflow {how} ({limit}); see {sweep.tracker_log}"
        answer = parse(Answer, told)
        return answer, answer.error or ""


class _AwayError(Exception):
    """Another process of this command has found MLflow away while we were waiting for it."""


def is_online(config: schema.Tracker) -> bool:
    """Whether anything is sent.

    Raises:
        TrackerFailed: it should be, and nobody says where to.
    """
    has_uri = bool(os.environ.get(URI))
    if config.mode == "online" and not has_uri:
        raise TrackerFailed(f"tracker.mode=online: {URI} is not set.", hint=f"Set {URI}, or tracker.mode=auto.")
    return has_uri and config.mode != "offline"


def waiting_line(sweep: SweepDir) -> tuple[str, ...]:
    """What waits to be sent, and how it is."""
    count = sum(1 for path in sweep.mlflow_waiting("").glob("*") if path.name != SWEEP)
    if not count and not sweep.mlflow_waiting(SWEEP).exists():
        return ()
    what = f"{count} trial{'s' * (count != 1)}" if count else "the end of the sweep"
    how = "" if os.environ.get(URI) else f"set {URI}, then "
    return (f"MLflow: {what} not sent. To send: {how}servetune sync {shlex.quote(str(sweep.path))}",)


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """For the process that publishes. A user and password in the URI go to their own variables: URLs are printed."""
    env = {**QUIET, **given}
    there = urlsplit(env.get(URI, ""))
    if there.username is None:
        return env
    env["MLFLOW_TRACKING_USERNAME"] = unquote(there.username)
    env["MLFLOW_TRACKING_PASSWORD"] = unquote(there.password or "")
    env[URI] = urlunsplit(there._replace(netloc=there.netloc.rpartition("@")[2]))
    return env


def _wait(sweep: SweepDir, what: int | str) -> None:
    """Until it is sent; noted first, so that what is broken off is not forgotten."""
    path = sweep.mlflow_waiting(what)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _look(sweep: SweepDir) -> None:
    if away.is_marked(sweep.mlflow_away):
        raise _AwayError
