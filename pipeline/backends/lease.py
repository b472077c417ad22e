"""The lease: a list of what a trial owns. It is on disk before anything is created, so any later process can remove it.

Each lease is stored twice: in the run directory (for people) and in the state directory (for the reaper, which must
find leases wherever outputs were written).
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from pipeline.core.files import RunDir, save
from pipeline.core.schema_backends import Cluster
from pipeline.core.teardown import Teardown
from pipeline.core.values import load, now, value
from pipeline.machine import identity

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.core.plan import Plan


@value
class Lease:
    """Identity, owner and belongings of one trial. `label` is carried by everything made for it."""

    label: str
    backend: str
    owner: identity.Identity
    run_dir: Path
    created_at: datetime
    stop_grace_s: float
    host: str
    endpoint: str | None = None  # Docker's socket
    cluster: Cluster | None = None  # of Kubernetes, its namespace resolved
    gpu_used_mib: Mapping[str, int] = Field(default_factory=dict)  # by UUID, before the trial
    scratch: Path | None = None  # the temporary folder of the engine's processes
    shared_before: tuple[int, ...] = ()  # inodes of what lay in /dev/shm before
    port: int | None = None
    pid: int | None = None
    released: Teardown | None = None


def state_dir() -> Path:
    """Where leases are registered: $SERVETUNE_STATE_DIR, else $XDG_STATE_HOME/servetune."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(os.environ.get("SERVETUNE_STATE_DIR") or Path(base) / "servetune")


def registered(label: str) -> Path:
    """The lease's file in the state directory."""
    return state_dir() / "leases" / f"{label}.json"


def notes(label: str) -> Path:
    """Where is noted which objects of /dev/shm are the trial's: `inode name` on each line."""
    return registered(label).with_suffix(".shared")


def make(plan: "Plan") -> Lease:
    """A new lease, owned by this process; not written yet."""
    safe = re.sub(r"[^a-zA-Z0-9-]+", "-", plan.trial_id).strip("-").lower()
    return Lease(
        label=f"{safe[-40:].strip('-')}-{secrets.token_hex(4)}",
        backend=plan.backend,
        owner=identity.of(),
        run_dir=plan.run_dir.resolve(),
        created_at=now(),
        stop_grace_s=plan.stop_grace_s,
        host=plan.host,
        gpu_used_mib=plan.slots.gpu_used_mib,
        cluster=plan.kubernetes.cluster if plan.kubernetes else None,
        endpoint=plan.container.socket or os.environ.get("DOCKER_HOST") if plan.container else None,
    )


def update(lease: Lease) -> None:
    """Write the lease's new state to both places.

    Raises:
        OSError: a place cannot be written.
    """
    path = registered(lease.label)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, lease)
    save(RunDir(lease.run_dir).lease, lease)


def release(lease: Lease, outcome: Teardown) -> None:
    """Write down how teardown ended; a clean one takes the lease off the register.

    A run directory that someone has deleted meanwhile is no obstacle, nor is a full disk.
    """
    ended = replace(lease, released=outcome)
    if lease.run_dir.is_dir():
        with suppress(OSError) if outcome.is_clean else nullcontext():
            save(RunDir(lease.run_dir).lease, ended)
    if outcome.is_clean:
        notes(lease.label).unlink(missing_ok=True)
        registered(lease.label).unlink(missing_ok=True)
    else:
        save(registered(lease.label), ended)


def current(lease: Lease) -> Lease:
    """The lease as it is on disk now, wherever it can still be read; else as given."""
    for path in (registered(lease.label), RunDir(lease.run_dir).lease):
        try:
            return load(Lease, path)
        except (OSError, ValidationError):
            continue
    return lease


def neighbours(lease: Lease) -> int:
    """How many other trials run on this machine at this moment."""
    others = (other for other in all_registered() if other.label != lease.label)
    return sum(other.owner.host == lease.owner.host and identity.is_alive(other.owner) for other in others)


def all_registered() -> Iterator[Lease]:
    """Every lease in the state directory that can be read."""
    for path in sorted((state_dir() / "leases").glob("*.json")):
        try:
            yield load(Lease, path)
        except (OSError, ValidationError):
            continue
