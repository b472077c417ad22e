"""stdout and stderr that outlive their readers.

A closed pipe, a terminal that is gone, a full disk or a letter that the locale lacks must not cost a trial.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


class Enduring:
    """A stream whose words are lost, without an error, from the moment on that they cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """As the stream's own."""
        with self._enduring():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As the stream's own."""
        with self._enduring():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextmanager
    def _enduring(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # as docs.python.org/3/library/signal.html#note-on-sigpipe: the buffer must be emptied, too
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


def endure() -> None:
    """Let the rest of this program go on when nobody reads it any more (`... | head`)."""
    sys.stdout, sys.stderr = (cast("TextIO", Enduring(_lenient(stream))) for stream in (sys.stdout, sys.stderr))


def _lenient(stream: TextIO | None) -> TextIO:
    """None: we were started with it closed (`>&-`)."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - until our end
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream
