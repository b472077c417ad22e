"""Runs genai-bench in a Job in the engine's cluster, once per level."""

import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.backends.kube import client, creation, rollout
from pipeline.backends.kube.client import Api, ApiError, Unreachable
from pipeline.backends.kube.removal import POD_OF_JOB
from pipeline.bench import Beside, Job, Outcome, Watch, program
from pipeline.bench.beside import unpack
from pipeline.bench.command import CONSOLE
from pipeline.core.errors import BenchFailed, DeployFailed
from pipeline.engines import http

CONTAINER = "genai-bench"
TICK_S = 0.5
AWAY_S = 60.0  # that the API server may be away when the results are fetched
NEVER = (*rollout.PULL_FAILED, *rollout.CONFIG_FAILED)
Object = Mapping[str, Any]


class InCluster:
    """Runs the Jobs that the calls bring along."""

    def start(self, tokenizer_dir: Path | None = None) -> None:
        """Do nothing: nothing can be done early."""

    def wait_ready(self, *, timeout_s: float, watch: Watch) -> None:
        """Always ready.

        Raises:
            BenchFailed: the server needs an API key, which this runner could not keep secret.
        """
        program.refuse_key(f"Unset {http.API_KEY_ENV}, or set bench.location=here: in a cluster,", "genai-bench")

    def run(self, job: Job, watch: Watch) -> Outcome:
        """Run one level; neither the Job nor its pod is left."""
        job.folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        if job.beside is None:
            raise BenchFailed("The call does not name a cluster.")
        with closing(client.connect(job.beside.cluster)) as api:
            run = _Run(api, job, job.beside, watch)
            code: int | None = None
            try:
                code, error = run.measure()
            except (BenchFailed, DeployFailed) as problem:
                error = str(problem)
            finally:
                run.remove()
        return Outcome(exit_code=code, error=error, elapsed_s=time.monotonic() - start)

    def close(self) -> None:
        """Do nothing: nothing outlives a level."""


@dataclass
class _Run:
    """One Job, from its creation to its removal."""

    api: Api
    job: Job
    beside: Beside
    watch: Watch

    @property
    def name(self) -> str:
        return str(self.beside.manifest["metadata"]["name"])

    def measure(self) -> tuple[int, str | None]:
        """The exit code of genai-bench, and what is wrong with it.

        Raises:
            BenchFailed: it did not start, or did not end, or its results do not arrive.
            DeployFailed: the API server refuses the Job, or is away.
        """
        self._create()
        self._wait()
        log, kept = self._log(), self.job.folder / CONSOLE
        kept.write_text(log, "utf-8")
        code, console = unpack(log, self.job.folder)
        kept.write_text(console, "utf-8")
        lines = console.strip().splitlines()
        return code, f"exit code {code}: {lines[-1] if lines else 'no output'}" if code else None

    def remove(self) -> None:
        """Teardown removes by label what this cannot."""
        with suppress(ApiError, Unreachable):
            self.api.delete("Job", self.name)
            for pod in self._pods():
                self.api.delete("Pod", pod["metadata"]["name"], grace_s=0)

    def _create(self) -> None:
        owner = creation.insist(lambda: self.api.get("Job", self.beside.owner))
        if owner is None:
            raise BenchFailed(f"The trial's Job {self.beside.owner} is gone: somebody deleted it.")
        told = {"apiVersion": "batch/v1", "kind": "Job", "name": self.beside.owner, "uid": owner["metadata"]["uid"]}
        manifest = self.beside.manifest
        creation.created(self.api, {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [told]}})

    def _wait(self) -> None:
        """Wait until genai-bench has ended. The time limit also runs while the API server does not answer."""
        end, has_begun = time.monotonic() + self.beside.start_timeout_s, False
        seen = "no pod yet"
        while True:
            self.watch()
            with suppress(Unreachable, ApiError):
                pod = next(iter(self._pods()), None)
                if pod is not None:
                    if _has_ended(pod):
                        return
                    seen = _refuse_the_hopeless(pod)
                    if "running" in _state(pod) and not has_begun:
                        has_begun, end = True, time.monotonic() + self.job.timeout_s
            if time.monotonic() >= end:
                raise _late(self.job, self.beside, seen, has_begun=has_begun)
            time.sleep(TICK_S)

    def _pods(self) -> list[dict[str, Any]]:
        return self.api.list("Pod", labels=f"{POD_OF_JOB}={self.name}")

    def _log(self) -> str:
        """All of it: the container has ended."""

        def once() -> str:
            (pod, *_) = self._pods()
            return b"".join(self.api.follow(pod["metadata"]["name"], container=CONTAINER)).decode(errors="replace")

        try:
            return str(creation.insist(once, patience_s=AWAY_S))
        except (ApiError, ValueError) as error:
            raise BenchFailed(f"The results of genai-bench cannot be fetched: {error}") from error


def _status(pod: Object) -> Object:
    statuses: list[Object] = pod.get("status", {}).get("containerStatuses") or []
    return next((one for one in statuses if one["name"] == CONTAINER), {})


def _state(pod: Object) -> Object:
    found: Object = _status(pod).get("state") or {}
    return found


def _has_ended(pod: Object) -> bool:
    return "terminated" in _state(pod)


def _refuse_the_hopeless(pod: Object) -> str:
    """What keeps it from running, in words.

    Raises:
        BenchFailed: it will never run.
    """
    waiting = _state(pod).get("waiting") or {}
    words = ": ".join(filter(None, [waiting.get("reason"), waiting.get("message")]))
    if waiting.get("reason") in NEVER:
        raise BenchFailed(
            f"genai-bench does not start in the cluster: {words} (check bench.cluster.image, .command and "
            "backend.kubernetes.image_pull_secrets)"
        )
    if pod.get("status", {}).get("phase") == "Failed":
        told = pod["status"]
        raise BenchFailed(f"The pod of genai-bench failed: {told.get('reason')}: {told.get('message')}")
    return words or "its pod is there"


def _late(job: Job, beside: Beside, seen: str, *, has_begun: bool) -> BenchFailed:
    if has_begun:
        return BenchFailed(f"genai-bench did not end within {job.timeout_s:g} s and was stopped")
    return BenchFailed(
        f"genai-bench did not start in the cluster within bench.start_timeout_s={beside.start_timeout_s:g} s: {seen}"
    )
