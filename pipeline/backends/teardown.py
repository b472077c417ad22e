"""Teardown by lease, for everybody who does it: the trial itself, its keeper, or the reaper."""

import time
from typing import Literal

from pipeline import backends
from pipeline.backends import lease
from pipeline.core.teardown import Teardown
from pipeline.machine import gpus


def run(owned: lease.Lease, *, by: Literal["trial", "keeper", "reaper"]) -> Teardown:
    """Remove everything of the lease and check that it is gone. Never raises an Exception: errors are in the result."""
    start = time.monotonic()
    remaining: tuple[str, ...] = ()
    error: str | None = None
    try:
        remaining = backends.load(owned.backend).teardown(owned)
        remaining += gpus.kept(owned.gpu_used_mib) if owned.gpu_used_mib else ()
    except Exception as problem:  # noqa: BLE001 - a teardown error must never hide the trial's own error
        error = f"{type(problem).__name__}: {problem}"
    outcome = Teardown(by=by, seconds=round(time.monotonic() - start, 3), remaining=remaining, error=error)
    try:
        lease.release(owned, outcome)
    except OSError as problem:
        return Teardown(by=by, seconds=outcome.seconds, remaining=remaining, error=f"lease not written: {problem}")
    return outcome
