"""Whose failure it was that a request was not answered. Standard library only."""

import errno
import socket
from collections.abc import Iterator

from pipeline.bench.stream import clean

OURS = {  # what our own process or machine has run out of
    errno.EMFILE: ("too_many_open_files", "too many open files in the load generator: raise the limit (ulimit -n)"),
    errno.ENFILE: ("too_many_open_files", "too many open files on this machine (fs.file-max)"),
    errno.EADDRNOTAVAIL: ("no_free_port", "no free port on this machine (net.ipv4.ip_local_port_range)"),
    errno.ENOBUFS: ("no_buffers", "no buffer space on this machine"),
    errno.ENOMEM: ("no_memory", "no memory on this machine"),
}
THEIRS = {
    errno.ECONNREFUSED: ("connection_refused", "connection refused"),
    errno.ECONNRESET: ("connection_reset", "the connection was reset"),
    errno.EPIPE: ("connection_reset", "the connection was reset"),
    errno.ETIMEDOUT: ("connection_timed_out", "the connection timed out"),
}


def cause_of(error: BaseException) -> tuple[str, str, str]:
    """(how, cause, words) of what the HTTP library raised: by the system's own error below it, where there is one."""
    for each in _chain(error):
        if isinstance(each, socket.gaierror) or type(each).__name__ == "NameResolutionError":
            return "client", "name_resolution", f"the server's name cannot be resolved: {clean(str(each))}"
        number = getattr(each, "errno", None)
        if number in OURS:
            return ("client", *OURS[number])
        if number in THEIRS:
            return ("failed", *THEIRS[number])
    name = type(error).__name__
    if name in ("ChunkedEncodingError", "ConnectionError", "ContentDecodingError", "ProtocolError", "DecodeError"):
        return "failed", "connection_broken", f"the connection broke: {clean(str(error))}"
    return "unreadable", "unreadable", f"{name}: {clean(str(error))}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it came from; urllib3 keeps some of that in `reason`, requests in its arguments."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            todo += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
