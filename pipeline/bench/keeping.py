"""Asks a server whether connections to it may be kept. Standard library only."""

import errno
import time
from collections.abc import Callable
from contextlib import suppress

from pipeline.bench.connection import Poll, Server, connect
from pipeline.bench.stream import Refused, Unreadable
from pipeline.bench.wire import Response

ASKED_S = 2.0


def server_keeps(to: Server, request: bytes) -> bool:
    """Whether connections may be kept: `request` is answered by a server that neither closes nor limits them.

    One that says how long it keeps a connection (`Keep-Alive: timeout=5`) has a thread for each. llama.cpp's has few: a
    connection that is kept for one user keeps others out. It closes it after a stream all the same.
    """
    response = Response()

    def take(data: bytes) -> bool:
        with suppress(Refused):  # what it says of the connection counts, even if that is all
            response.feed(data, 0.0)
        return bool(response.status)

    try:
        _ask(to, request, take)
    except (OSError, Unreadable):
        return False
    return bool(response.status) and response.is_kept and not response.is_limited


def _ask(to: Server, data: bytes, take: Callable[[bytes], bool]) -> None:
    """Open a connection, write `data`, and read until `take` has enough, or there is no more.

    Raises:
        OSError: it fails, or takes longer than ASKED_S.
    """
    one, poll, end = connect(to), Poll(), time.monotonic() + ASKED_S
    try:
        poll.watch(one)
        while time.monotonic() < end:
            if not poll.wait(max(0.0, end - time.monotonic())):
                break
            if one.is_open:
                found, _ = one.read()
                if found is not None and (not found or take(found)):
                    return
            elif one.opened():
                one.write(data)
            poll.wants(one)
        raise TimeoutError(errno.ETIMEDOUT, "no answer")
    finally:
        poll.close()
        one.close()
