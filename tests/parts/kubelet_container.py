"""A container of a pod: a process of this machine and what the API says of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from parts.kubelet_command import ConfigError, StartError
from parts.kubelet_probe import Probes
from parts.kubelet_sandbox import Sandbox
from parts.ome_behaviour import Behaviour

POD_LABEL = "KUBE_TESTS_POD"
SEEN_S = 0.3  # so long a state is kept that a real kubelet shows before the next
Plan = Callable[[], tuple[list[str], dict[str, str]]]  # the command line and the environment, looked up at each start


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Container:
    """Moved on by `step`, never waiting."""

    spec: Any
    uid: str  # the pod's
    folder: Path
    sandbox: Sandbox
    plan: Plan
    state: Any = None
    last_state: Any = None
    restarts: int = 0
    program: subprocess.Popen[bytes] | None = None
    probes: Probes | None = None
    since: float = 0.0  # the state
    was_killed: bool = False

    def __post_init__(self) -> None:
        self._become({"waiting": {"reason": "ContainerCreating"}})

    @property
    def log(self) -> Path:
        """Of the run that is, or was last."""
        return self.folder / f"{self.spec['name']}.{self.restarts}.log"

    @property
    def previous_log(self) -> Path:
        return self.folder / f"{self.spec['name']}.{max(0, self.restarts - 1)}.log"

    def step(self, behaviour: Behaviour, *, restarts: bool) -> None:
        kind = next(iter(self.state))
        if kind == "running":
            self._watch(behaviour)
        elif kind == "terminated":
            if restarts and time.monotonic() - self.since > SEEN_S:
                self._back_off(behaviour)
        elif self.state["waiting"]["reason"] == "CrashLoopBackOff":
            if time.monotonic() - self.since > behaviour.backoff_s:
                self._restart(behaviour)
        else:
            self._create(behaviour)

    def stop(self) -> None:
        """TERM to the program only, as a runtime does."""
        if self.program is not None and self.program.poll() is None:
            self.program.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """All that runs in it: with its first process a container ends."""
        for one in _labelled(self.uid, self.spec["name"]):
            with suppress(psutil.NoSuchProcess):
                one.kill()

    @property
    def has_ended(self) -> bool:
        return self.program is None or self.program.poll() is not None

    def status(self) -> dict[str, Any]:
        probes = self.probes
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": "" if "waiting" in self.state else f"fake://{self.spec['image']}",
            "ready": bool(probes and probes.is_ready and "running" in self.state),
            "started": bool(probes and probes.is_started and "running" in self.state),
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state or {},
        }

    def _create(self, behaviour: Behaviour) -> None:
        waited = time.monotonic() - self.since
        if behaviour.pull_error:
            reason = self.state["waiting"]["reason"]
            if reason == "ContainerCreating":
                self._become({"waiting": {"reason": "ErrImagePull", "message": behaviour.pull_error}})
            elif reason == "ErrImagePull" and waited > SEEN_S:
                message = f'Back-off pulling image "{self.spec["image"]}"'
                self._become({"waiting": {"reason": "ImagePullBackOff", "message": message}})
        elif waited >= behaviour.pull_s:
            self._start(behaviour)

    def _start(self, behaviour: Behaviour) -> None:
        try:
            line, env = self.plan()
        except ConfigError as error:
            self.state = {"waiting": {"reason": "CreateContainerConfigError", "message": str(error)}}
            return
        except StartError as error:
            self._end(128, "StartError", f"failed to create containerd task: {error}")
            return
        if behaviour.exit_code is not None:
            line = ["/bin/sh", "-c", f"echo told to end with {behaviour.exit_code}; exit {behaviour.exit_code}"]
        self._run(line, env)

    def _run(self, line: list[str], env: Mapping[str, str]) -> None:
        with self.log.open("ab") as out:
            self.program = subprocess.Popen(
                [*self._network(), *line],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**env, POD_LABEL: f"{self.uid}/{self.spec['name']}"},
                cwd=self.folder,
                start_new_session=True,
            )
        self.was_killed = False
        self._become({"running": {"startedAt": now()}})
        self.probes = Probes(self.spec, self.sandbox.address)
        self.probes.start()

    def _network(self) -> list[str]:
        """Who opens no port is left in this machine's own: between pods, packets would have to be forwarded."""
        return self.sandbox.enter() if self.spec.get("ports") else []

    def _watch(self, behaviour: Behaviour) -> None:
        assert self.program is not None
        assert self.probes is not None
        code = self.program.poll()
        if code is not None:
            self.kill()
            code = 128 - code if code < 0 else code
            self._end(code, behaviour.death_reason or ("Error" if code else "Completed"))
        elif self.probes.complaint and not self.was_killed:
            self.was_killed = True
            self.kill()  # a real kubelet sends TERM first, and waits for the grace period

    def _end(self, code: int, reason: str, message: str = "") -> None:
        if self.probes is not None:
            self.probes.stop()
        told = {"message": message} if message else {}
        started = self.state.get("running", {}).get("startedAt", now())
        times = {"startedAt": started, "finishedAt": now()}
        self._become({"terminated": {"exitCode": code, "reason": reason, **times, **told}})

    def _back_off(self, behaviour: Behaviour) -> None:
        """The first time it starts again at once."""
        self.last_state = self.state
        if self.restarts == 0:
            self._restart(behaviour)
            return
        message = f"back-off {behaviour.backoff_s:g}s restarting failed container={self.spec['name']}"
        self._become({"waiting": {"reason": "CrashLoopBackOff", "message": message}})

    def _restart(self, behaviour: Behaviour) -> None:
        self.restarts += 1
        self._start(behaviour)

    def _become(self, state: Any) -> None:
        self.state, self.since = state, time.monotonic()


def _labelled(uid: str, container: str) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if one.pid != os.getpid() and one.environ().get(POD_LABEL) == f"{uid}/{container}":
                found.append(one)
    return found
