"""stdout and stderr that outlive their readers.

A closed pipe, a slow reader, a terminal that is gone, a full disk or a letter that the locale lacks must not cost a
trial: what cannot be written now waits in memory, and is written by the next word, or before the program ends.
"""

import atexit
import io
import logging
import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Any, TextIO, cast

from pipeline.core.words import visible

AT_ONCE = select.PIPE_BUF  # bytes that a pipe takes without blocking, when it says that it takes any
OF_A_DISPLAY = re.compile(r"(\x1b\[(?:[0-9;]*m|[0-9]*[AK]|\?25[lh])|\r(?=\x1b\[))")  # what rich draws with


class Enduring:
    """A stream that never blocks and never fails. Words are lost from the moment on that nobody can read them."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.waiting = bytearray()  # for a reader that is slower than we
        self.lock = RLock()  # a live table draws in a thread

    @property
    def is_behind(self) -> bool:
        """Whether the reader has yet to take what was written."""
        return bool(self.waiting)

    def write(self, text: str) -> int:
        """As the stream's own, but for control characters that no display of ours uses: those are shown."""
        shown = "".join(part if at % 2 else visible(part) for at, part in enumerate(OF_A_DISPLAY.split(text)))
        with self.lock, self._enduring():
            handle = _handle(self.stream)
            if handle is None:
                self.stream.write(shown)
            else:
                self.waiting += shown.encode(self.stream.encoding or "utf-8", "replace")
                self._send(handle, waits=False)
        return len(text)

    def flush(self) -> None:
        """Write what can be written now."""
        with self.lock, self._enduring():
            handle = _handle(self.stream)
            if handle is None:
                self.stream.flush()
            else:
                self._send(handle, waits=False)

    def drain(self) -> None:
        """Write all that waits, however long its reader takes."""
        with self.lock, self._enduring(), suppress(KeyboardInterrupt):
            if (handle := _handle(self.stream)) is not None:
                self._send(handle, waits=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _send(self, handle: int, *, waits: bool) -> None:
        poll = select.poll()
        poll.register(handle, select.POLLOUT)
        while self.waiting and poll.poll(None if waits else 0):
            try:
                sent = os.write(handle, self.waiting[:AT_ONCE])
            except BlockingIOError:  # another program has made the terminal that we share non-blocking
                if not waits:
                    return
                continue
            del self.waiting[:sent]

    @contextmanager
    def _enduring(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # as docs.python.org/3/library/signal.html#note-on-sigpipe: the buffer must be emptied, too
            self.waiting.clear()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


def endure() -> None:
    """Let the rest of this program go on when nobody reads it any more (`... | head`), or nobody just now."""
    logging.raiseExceptions = False  # else each line that a full disk refuses is a stack on stderr
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Enduring):
            enduring = Enduring(_lenient(stream))
            atexit.register(enduring.drain)
            setattr(sys, name, cast("TextIO", enduring))


def _handle(stream: TextIO) -> int | None:
    """Its descriptor; None for a stream that has none, e.g. a test's."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _lenient(stream: TextIO | None) -> TextIO:
    """None: we were started with it closed (`>&-`)."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - until our end
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
        with suppress(OSError):
            stream.flush()  # what follows goes past its buffer
    return stream
