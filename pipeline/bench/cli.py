"""Runs the plain `genai-bench` command, once per level. Slow; the tests use it as the reference."""

import os
import time

from pipeline.bench import Job, Outcome, Watch
from pipeline.bench.command import CONSOLE, environment
from pipeline.bench.program import Program, called


class Cli(Program):
    """Calls the command."""

    named, instead = "genai-bench", "Use bench.runner=resident: with bench.runner=cli,"

    def run(self, job: Job, watch: Watch) -> Outcome:
        """Run one level as a process of its own; its whole session is gone afterwards."""
        job.folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        code = called((str(self.program), *job.argv), job, watch, environment(os.environ))
        return Outcome(exit_code=code, error=_words(code, job), elapsed_s=time.monotonic() - start)


def _words(code: int | None, job: Job) -> str | None:
    if code == 0:
        return None
    if code is None:
        return f"genai-bench did not end within {job.timeout_s:g} s and was stopped"
    lines = (job.folder / CONSOLE).read_text("utf-8", errors="replace").splitlines()
    return f"exit code {code}: {lines[-1] if lines else 'no output'}"
