"""Room for the load generator's connections: open files and local ports. Both limits are of the process that asks.

A child inherits the limit of open files: raise it before the load generator starts.
"""

import resource
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.core.errors import PreflightFailed

OWN_FILES = 64  # of the load generator itself: libraries, logs, pipes
PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def make_room(users: int) -> str:
    """Let this process and its children have a connection for each user; what there is room for, in words.

    Raises:
        PreflightFailed: there cannot be as many.
    """
    _insist_on_ports(users)
    needed = users + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not _is_enough(soft, needed):
        _raise(users, needed, hard)
        soft = needed
    return "no limit of open files" if soft == resource.RLIM_INFINITY else f"{soft} open files"


def _is_enough(limit: int, needed: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= needed


def _raise(users: int, needed: int, hard: int) -> None:
    wanted = (needed, hard if _is_enough(hard, needed) else needed)  # root may raise the hard limit too
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, wanted)
    except (ValueError, OSError) as error:
        raise PreflightFailed(
            f"{users} users need {needed} open files, a socket each and {OWN_FILES} of the load generator's own; this "
            f"process may have {hard} (the hard limit).",
            hint=f"Raise it (ulimit -Hn {needed} as root, LimitNOFILE= of a service, --ulimit nofile={needed} of a "
            "container), or lower traffic.concurrencies.",
        ) from error
    for child in psutil.Process().children(recursive=True):  # a load generator that runs since the trial before
        with suppress(psutil.Error, ValueError, OSError):
            resource.prlimit(child.pid, resource.RLIMIT_NOFILE, wanted)


def _insist_on_ports(users: int) -> None:
    try:
        low, high = map(int, PORTS.read_text("ascii").split())
    except (OSError, ValueError):
        return
    if high - low + 1 < users:
        raise PreflightFailed(
            f"{users} users need a local port each; this machine gives out {high - low + 1} ({low} to {high}).",
            hint="Widen net.ipv4.ip_local_port_range, or lower traffic.concurrencies.",
        )
