"""Runs the plain `genai-bench` command, once per level. Slow; the tests use it as the reference."""

import os
import time
from pathlib import Path

from pipeline.bench import Job, Outcome, Watch
from pipeline.bench.command import CONSOLE, environment
from pipeline.core.errors import BenchFailed
from pipeline.engines import http
from pipeline.machine import process

TICK_S = 0.1


class Cli:
    """Calls the command."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def start(self, tokenizer_dir: Path | None = None) -> None:
        """Do nothing: nothing can be done early."""

    def wait_ready(self, *, timeout_s: float, watch: Watch) -> None:
        """Always ready.

        Raises:
            BenchFailed: the server needs an API key, which this runner could not keep secret.
        """
        if http.api_key():
            raise BenchFailed(
                f"Use bench.runner=resident: with bench.runner=cli, genai-bench would take {http.API_KEY_ENV} on its "
                "command line and write it to disk."
            )

    def run(self, job: Job, watch: Watch) -> Outcome:
        """Run one level as a process of its own; its whole session is gone afterwards."""
        job.folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        console = job.folder / CONSOLE
        env = {**environment(os.environ), process.LABEL: job.label}
        pid = process.spawn((str(self.program), *job.argv), log=console, env=env, cwd=job.folder)
        end = start + job.timeout_s
        try:
            while (code := process.exit_code(pid)) is None and time.monotonic() < end:
                watch()
                time.sleep(TICK_S)
        finally:
            process.kill_group(pid)
        return Outcome(exit_code=code, error=_words(code, job, console), elapsed_s=time.monotonic() - start)

    def close(self) -> None:
        """Do nothing: nothing outlives a level."""


def _words(code: int | None, job: Job, console: Path) -> str | None:
    if code == 0:
        return None
    if code is None:
        return f"genai-bench did not end within {job.timeout_s:g} s and was stopped"
    lines = console.read_text("utf-8", errors="replace").splitlines()
    return f"exit code {code}: {lines[-1] if lines else 'no output'}"
