"""Runs the engine as a process on this machine, in its own session."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil

from pipeline.backends import Deployment, Tell, belongings, lease, ports
from pipeline.core.errors import DeployFailed, FailureKind
from pipeline.core.files import RunDir
from pipeline.machine import detected, fostered, identity, oom, process

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.backends import Check
    from pipeline.core.plan import Plan
    from pipeline.core.schema import Config
    from pipeline.core.schema_hardware import Seen

_reserved: dict[str, socket.socket] = {}
KEPT = {"SPT_NOENV": "1"}  # setproctitle (vLLM, SGLang) would write over the environment, and the label with it


class Local:
    """Starts, watches and removes local processes by their lease's label."""

    def checks(self, config: "Config") -> "Iterator[tuple[str, Check]]":
        """Nothing: pipeline/trial/checks.py has all checks of a local engine."""
        return iter(())

    def gpus(self, config: "Config") -> "tuple[Seen, ...]":
        """This machine's."""
        return detected.here(config.hardware.gpu_ids)

    def prepare(self, plan: "Plan", tell: Tell) -> None:
        """Nothing to fetch."""

    def await_room(self, plan: "Plan", tell: Tell) -> None:
        """Nothing: this machine's GPUs are pipeline.machine.slots' to give."""

    def deploy(self, plan: "Plan", owned: lease.Lease) -> Deployment:
        """Start the engine; it is not ready yet.

        The port is found by binding and stays bound by us, without listening, until the engine listens on it: Linux
        lets both bind because both set SO_REUSEADDR and ours never listens, and nobody else is given it meanwhile.

        Raises:
            DeployFailed: no port, or the program cannot be started.
        """
        try:
            port = _reserve(owned.label, plan.host)
            owned = belongings.make(replace(owned, port=port), plan.env)
            argv = [part.replace("{port}", str(port)) for part in plan.argv]
            log, env = RunDir(plan.run_dir).server_log, _environment(plan, owned)
            oom.watch(owned.label)
            pid = fostered.spawn(argv, log=log, env=env, cores=plan.slots.cores)
            owned = replace(owned, pid=pid)
            lease.update(owned)
        except OSError as error:
            raise DeployFailed(
                f"Cannot start {plan.argv[0]}: {error.strerror or error}.", kind=FailureKind.LOAD_FAILED
            ) from error
        return Deployment(lease=owned, url=f"http://{plan.host}:{port}", port=port, pid=pid)

    def death(self, deployment: Deployment) -> str | None:
        """`exit code 1`, `killed by SIGKILL`, that nobody can tell, or None while it runs."""
        code = fostered.exit_code(deployment.pid) if deployment.pid else None
        if code is None:
            if deployment.pid:
                oom.follow(deployment.lease.label, deployment.pid)
            is_lost = deployment.pid is not None and fostered.is_lost(deployment.pid)
            return "ended, and nobody can tell how" if is_lost else None
        return process.signal_name(-code) if code < 0 else f"exit code {code}"

    def condition(self, deployment: Deployment) -> str | None:
        """A process has none."""
        return None

    def owns_listener(self, deployment: Deployment) -> bool:
        """Whether a process with our label listens on the port."""
        for owned in process.labelled(deployment.lease.label):
            try:
                connections = owned.net_connections(kind="tcp")
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == deployment.port for c in connections):
                _let_go(deployment.lease.label)
                return True
        return False

    def teardown(self, owned: lease.Lease) -> tuple[str, ...]:
        """Stop every process with the label; look that none is left and that the port is free."""
        _let_go(owned.label)
        if owned.owner.boot_id != identity.of().boot_id:
            return ()  # the machine was restarted since: whoever has the port now is not ours
        remaining = process.stop_labelled(owned.label, grace_s=owned.stop_grace_s)
        fostered.let_go(owned.pid)
        if owned.port is not None and not _becomes_free(owned.host, owned.port):
            remaining = (*remaining, f"something still listens on port {owned.port}")
        return remaining


def _environment(plan: "Plan", owned: lease.Lease) -> dict[str, str]:
    secrets = {theirs: os.environ[ours] for theirs, ours in plan.secret_env.items() if os.environ.get(ours)}
    own = {**belongings.environment(owned), **plan.env}
    return {**os.environ, **own, **secrets, **KEPT, process.LABEL: owned.label}


def _becomes_free(host: str, port: int) -> bool:
    return process.wait_until(lambda: ports.is_free(host, port), timeout_s=process.DYING_S)


def _reserve(label: str, host: str) -> int:
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((host, 0))
    _reserved[label] = holder
    port: int = holder.getsockname()[1]
    return port


def _let_go(label: str) -> None:
    holder = _reserved.pop(label, None)
    if holder:
        holder.close()
