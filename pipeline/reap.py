"""`python -m pipeline.reap`: remove what trials left behind whose owner is gone."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline import identity
from pipeline.backends import lease, teardown
from pipeline.record import Teardown
from pipeline.values import load


def orphans() -> tuple[lease.Lease, ...]:
    """The leases of this host whose owner no longer runs."""
    return tuple(owned for owned in lease.all_registered() if not identity.is_alive(owned.owner))


def reap() -> tuple[tuple[lease.Lease, Teardown], ...]:
    """Tear every orphan down. Nothing without one of our labels is touched."""
    return tuple((owned, teardown.run(owned, by="reaper")) for owned in orphans())


def unreadable() -> Iterator[Path]:
    """The files among the leases that cannot be read: damaged, or of another version of this program."""
    for path in sorted((lease.state_dir() / "leases").glob("*.json")):
        try:
            load(lease.Lease, path)
        except FileNotFoundError:  # released meanwhile
            continue
        except (OSError, ValidationError):
            yield path


def main(argv: Sequence[str] | None = None) -> int:
    """The command. 0: nothing of ours is left; 3: something could not be removed."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.reap",
        description="Remove servers whose trial was killed. Walks the leases in "
        f"{lease.state_dir() / 'leases'}, touches only what carries their label. Exit code 3: something remains.",
    )
    parser.add_argument("--list", action="store_true", help="only list the leases, remove nothing")
    only_lists = parser.parse_args(argv).list
    for path in unreadable():
        sys.stderr.write(f"cannot be read: {path}; remove it by hand if nothing of it runs\n")
    if only_lists:
        return _list()
    reaped = reap()
    for owned, outcome in reaped:
        left = "; ".join(outcome.remaining) or outcome.error
        print(f"{owned.label}: {f'NOT REMOVED: {left}' if left else 'removed'} ({owned.run_dir})")
    print(f"{len(reaped)} leases without an owner, {sum(o.is_clean for _, o in reaped)} removed.")
    return 0 if all(outcome.is_clean for _, outcome in reaped) else 3


def _list() -> int:
    for owned in lease.all_registered():
        state = "in use" if identity.is_alive(owned.owner) else "orphan"
        print(f"{owned.label}  {state}  pid {owned.pid}  port {owned.port}  {owned.run_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
