"""What the runners share that call another program for each level."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.bench import Job, Watch
from pipeline.bench.command import CONSOLE
from pipeline.core.errors import BenchFailed
from pipeline.engines import http
from pipeline.machine import process

TICK_S = 0.1


class Program:
    """A command that is called once per level: nothing can be done early, and nothing outlives a level."""

    named, instead = "", ""  # in the words on a key

    def __init__(self, program: Path) -> None:
        self.program = program

    def start(self, tokenizer_dir: Path | None = None) -> None:
        """Do nothing: nothing can be done early."""

    def wait_ready(self, *, timeout_s: float, watch: Watch) -> None:
        """Always ready.

        Raises:
            BenchFailed: the server needs an API key, which this runner could not keep secret.
        """
        refuse_key(self.instead, self.named)

    def close(self) -> None:
        """Do nothing: nothing outlives a level."""


def refuse_key(instead: str, program: str) -> None:
    """Refuse a server that needs an API key, which the program would not keep secret.

    Raises:
        BenchFailed: with what to do instead.
    """
    if http.api_key():
        raise BenchFailed(
            f"{instead} {program} would take {http.API_KEY_ENV} on its command line and write it to disk."
        )


def called(argv: Sequence[str], job: Job, watch: Watch, env: Mapping[str, str]) -> int | None:
    """The exit code of one level's call; None: it took too long. Its whole session is gone afterwards."""
    end = time.monotonic() + job.timeout_s
    labelled = {**env, **http.trust(), process.LABEL: job.label}
    pid = process.spawn(tuple(argv), log=job.folder / CONSOLE, env=labelled, cwd=job.folder)
    try:
        while (code := process.exit_code(pid)) is None and time.monotonic() < end:
            watch()
            time.sleep(TICK_S)
    finally:
        process.kill_group(pid)
    return code
