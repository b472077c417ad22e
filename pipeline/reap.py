"""`python -m pipeline.reap`: remove what trials left behind whose owner is gone.

By the leases of this machine; with `backend=ome` also by the labels in a cluster.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import initialize_config_dir
from pydantic import ValidationError

from pipeline import backends
from pipeline.backends import lease, teardown
from pipeline.config.command_line import composed
from pipeline.core.errors import ConfigError, PreflightFailed
from pipeline.core.places import CONF
from pipeline.core.schema_backends import Cluster
from pipeline.core.teardown import Teardown
from pipeline.core.values import load, parse
from pipeline.machine import companion, entry, identity

EXAMPLES = """examples:
  {prog}
  {prog} --list backend=ome
  {prog} backend=ome backend.kubernetes.cluster.context=prod

With backend=ome, reap also removes trials from the cluster. It finds them by their label, in every namespace you may
list. It removes a trial if its process ran on this machine and is gone. It only lists trials of other machines, unless
--all-hosts is given: the cluster removes those itself when their lifetime ends.

Exit codes: 1, the cluster cannot be asked; 2, bad overrides; 3, something could not be removed."""


def orphans() -> tuple[lease.Lease, ...]:
    """The leases of this host whose owner no longer runs."""
    return tuple(owned for owned in lease.all_registered() if not identity.is_alive(owned.owner))


def reap() -> tuple[tuple[lease.Lease, Teardown], ...]:
    """Tear every orphan down. Nothing without one of our labels is touched."""
    companion.tidy()
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


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.reap") -> int:
    """The command. 0: nothing of ours is left; 1: the cluster cannot be asked; 2: bad words; 3: something remains."""
    options = _options(argv, prog)
    try:
        cluster = _cluster(options.overrides) if options.overrides else None
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for path in unreadable():
        sys.stderr.write(f"cannot be read: {path}; remove it by hand if nothing of it runs\n")
    code = _list() if options.list else _remove()
    return max(code, _in_cluster(cluster, options)) if cluster else code


def _options(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Remove servers whose trial was killed. Goes through the leases in "
        f"{lease.state_dir() / 'leases'} and touches only what carries their labels.",
        epilog=EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="list the leases and trials, remove nothing")
    parser.add_argument(
        "--all-hosts", action="store_true", help="also remove trials that other machines started in the cluster"
    )
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE", help="backend=ome and the cluster's settings")
    return parser.parse_intermixed_args(argv)


def _cluster(overrides: Sequence[str]) -> Cluster:
    """Which one the command means.

    Raises:
        ConfigError: none, or one of these words is wrong.
    """
    with initialize_config_dir(str(CONF)):
        settings = composed(overrides).backend.get("kubernetes")
    if settings is None:
        raise ConfigError("Only backend=ome has a cluster to look into; leases are walked without any words.")
    try:
        return parse(Cluster, dict(settings.cluster))
    except ValidationError as error:
        raise ConfigError(f"backend.kubernetes.cluster: {error.errors()[0]['msg']}.") from error


def _remove() -> int:
    reaped = reap()
    for owned, outcome in reaped:
        left = "; ".join([*outcome.remaining, *([outcome.error] if outcome.error else [])])
        print(f"{owned.label}: {f'NOT REMOVED: {left}' if left else 'removed'} ({owned.run_dir})")
    print(f"{len(reaped)} leases without an owner, {sum(o.is_clean for _, o in reaped)} removed.")
    return 0 if all(outcome.is_clean for _, outcome in reaped) else 3


def _in_cluster(cluster: Cluster, options: argparse.Namespace) -> int:
    """What the cluster has of us, and the end of it."""
    from pipeline.backends.kube import client, leftovers

    try:
        found, place = leftovers.find(cluster)
    except (PreflightFailed, client.ApiError, client.Unreachable) as error:
        sys.stderr.write(f"error: the cluster cannot be asked: {error}\n")
        return 1
    print(f"{len(found)} trials in the cluster ({place}).")
    wanted = {"orphan", "elsewhere"} if options.all_hosts else {"orphan"}
    codes = [0]
    for one in found:
        is_kept = options.list or one.state not in wanted
        left = () if is_kept else backends.load(leftovers.BACKEND).teardown(one.lease())
        end = "" if is_kept else f": NOT REMOVED: {'; '.join(left)}" if left else ": removed"
        print(f"{one.words}{end}")
        codes.append(3 if left else 0)
    return max(codes)


def _list() -> int:
    for owned in lease.all_registered():
        state = "in use" if identity.is_alive(owned.owner) else "orphan"
        print(f"{owned.label}  {state}  pid {owned.pid}  port {owned.port}  {owned.run_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(entry.run(main))
