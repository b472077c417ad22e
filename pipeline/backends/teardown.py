"""Teardown by lease, for everybody who does it: the trial itself, its keeper, or the reaper."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Literal, TypeVar

from pipeline import backends
from pipeline.backends import belongings, lease
from pipeline.core.teardown import Teardown
from pipeline.core.values import printable
from pipeline.machine import gpus

T = TypeVar("T")


def run(owned: lease.Lease, *, by: Literal["trial", "keeper", "reaper"]) -> Teardown:
    """Remove everything of the lease and check that it is gone. Never raises an Exception: errors are in the result.

    One step that fails keeps no other from being done: above all, the server goes.
    """
    start, errors = time.monotonic(), list[str]()
    with suppress(Exception):  # what cannot be noted now is told as unclaimed
        belongings.look(owned)
    remaining = _tried(lambda: backends.load(owned.backend).teardown(owned), errors) or ()
    swept = _tried(lambda: belongings.remove(owned), errors) or belongings.Swept()
    used = _tried(lambda: gpus.kept(owned.gpu_used_mib) if owned.gpu_used_mib else (), errors) or ()
    outcome = Teardown(
        by=by,
        seconds=round(time.monotonic() - start, 3),
        remaining=tuple(map(printable, (*remaining, *swept.remaining, *used))),
        error=printable("; ".join(errors)) or None,
        removed=tuple(map(printable, swept.removed)),
        unclaimed=tuple(map(printable, swept.unclaimed)),
    )
    try:
        lease.release(owned, outcome)
    except Exception as problem:  # noqa: BLE001 - as above
        told = [*([outcome.error] if outcome.error else []), f"lease not written: {problem}"]
        return replace(outcome, error=printable("; ".join(told)))
    return outcome


def _tried(step: Callable[[], T], errors: list[str]) -> T | None:
    try:
        return step()
    except Exception as problem:  # noqa: BLE001 - a teardown error must never hide the trial's own error
        errors.append(f"{type(problem).__name__}: {problem}")
        return None
