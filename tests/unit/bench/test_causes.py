"""Whose failure it was that a request was not answered."""

from __future__ import annotations

import errno
import socket

import pytest

from pipeline.bench import causes


def wrapped(error: OSError) -> Exception:
    """As urllib3 and requests hand it on."""
    outer = ConnectionError("Max retries exceeded")
    outer.args = (RuntimeError("pool"), error)
    return outer


@pytest.mark.parametrize(
    ("error", "how", "cause"),
    [
        (wrapped(OSError(errno.EMFILE, "Too many open files")), "client", "too_many_open_files"),
        (wrapped(OSError(errno.EADDRNOTAVAIL, "Cannot assign")), "client", "no_free_port"),
        (wrapped(socket.gaierror(-2, "Name or service not known")), "client", "name_resolution"),
        (wrapped(OSError(errno.ECONNREFUSED, "refused")), "failed", "connection_refused"),
        (wrapped(OSError(errno.ECONNRESET, "reset")), "failed", "connection_reset"),
        (ConnectionError("IncompleteRead"), "failed", "connection_broken"),
        (ZeroDivisionError("oh"), "unreadable", "unreadable"),
    ],
)
def test_a_failure_is_laid_at_the_right_door(error: Exception, how: str, cause: str) -> None:
    assert causes.cause_of(error)[:2] == (how, cause)
