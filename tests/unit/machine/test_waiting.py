"""What a keeper is until it has something to do."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from pipeline.machine import process, waiting


@contextmanager
def waiter(folder: Path, since_ns: int) -> Iterator["subprocess.Popen[bytes]"]:
    """It becomes a program that says what it was called with, and what its stdin still gives."""
    code = "import os, sys; print(*sys.argv[1:], flush=True); print(os.read(0, 9))"
    then = (sys.executable, "-I", "-S", "-c", code, "lease")
    argv = (sys.executable, "-I", "-S", waiting.__file__, str(since_ns), str(folder), *then)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def test_a_byte_is_the_end(tmp_path: Path) -> None:
    with waiter(tmp_path, time.time_ns()) as child:
        assert child.communicate(b".", timeout=240)[0] == b""
        assert child.returncode == 0


def test_the_end_of_the_pipe_brings_the_keeper(tmp_path: Path) -> None:
    with waiter(tmp_path, time.time_ns()) as child:
        out, _ = child.communicate(timeout=240)
    assert out.decode().splitlines() == ["lease gone", "b''"]


def test_what_was_made_before_it_looked_brings_the_keeper_which_waits_on(tmp_path: Path) -> None:
    begun = time.time_ns() - 10**9
    (tmp_path / "made").touch()
    with waiter(tmp_path, begun) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"lease\n"
        assert child.communicate(b".", timeout=240)[0] == b"b'.'\n"


def test_what_is_made_brings_the_keeper_although_the_clock_was_put_back(tmp_path: Path) -> None:
    with waiter(tmp_path, 2**62) as child:
        assert child.stdout is not None
        out, times = child.stdout.fileno(), count(1)

        def is_told() -> bool:  # it may not have looked for the first time yet
            os.utime(tmp_path, ns=(0, next(times)))
            return select.select([out], [], [], 0.1)[0] != []

        assert process.wait_until(is_told, timeout_s=180)
        assert child.communicate(b".", timeout=240)[0] == b"lease\nb'.'\n"


def test_a_folder_that_is_not_there_is_no_change(tmp_path: Path) -> None:
    assert waiting.changed(str(tmp_path / "none")) == 0
    with waiter(tmp_path / "none", 0) as child:
        assert child.communicate(b".", timeout=240)[0] == b""
