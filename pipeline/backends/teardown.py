"""Teardown by lease, for everybody who does it: the trial itself, its keeper, or the reaper."""

import time
from dataclasses import replace
from typing import Literal

from pipeline import backends
from pipeline.backends import belongings, lease
from pipeline.core.teardown import Teardown
from pipeline.machine import gpus


def run(owned: lease.Lease, *, by: Literal["trial", "keeper", "reaper"]) -> Teardown:
    """Remove everything of the lease and check that it is gone. Never raises an Exception: errors are in the result."""
    start = time.monotonic()
    remaining: tuple[str, ...] = ()
    swept = belongings.Swept()
    error: str | None = None
    try:
        belongings.look(owned)
        remaining = backends.load(owned.backend).teardown(owned)
        swept = belongings.remove(owned)
        remaining += swept.remaining
        remaining += gpus.kept(owned.gpu_used_mib) if owned.gpu_used_mib else ()
    except Exception as problem:  # noqa: BLE001 - a teardown error must never hide the trial's own error
        error = f"{type(problem).__name__}: {problem}"
    outcome = Teardown(
        by=by,
        seconds=round(time.monotonic() - start, 3),
        remaining=remaining,
        error=error,
        removed=swept.removed,
        unclaimed=swept.unclaimed,
    )
    try:
        lease.release(owned, outcome)
    except OSError as problem:
        return replace(outcome, error=f"lease not written: {problem}")
    return outcome
