"""Measures with NVIDIA's aiperf, a load generator in an environment of its own, once per level.

What is sent when is ours: a file with the length of each request, and its time where there are rates, which aiperf
replays. It makes the prompts. What it measured of each request, aiperf_export.py reads. Source: aiperf 0.13.0,
dataset/loader/models.py `MooncakeTrace`.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from itertools import zip_longest

from pipeline.bench import Job, Outcome, Watch
from pipeline.bench.aiperf_export import REQUESTS
from pipeline.bench.command import CONSOLE, OFFLINE, environment
from pipeline.bench.program import Program, called
from pipeline.machine import companion

MS = 1000.0


class Aiperf(Program):
    """Calls the command."""

    named, instead = "aiperf", "Use bench.runner=resident:"

    def run(self, job: Job, watch: Watch) -> Outcome:
        """Run one level as a process of its own; its whole session and its temporary files are gone afterwards."""
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / REQUESTS).write_text("".join(_lines(job)), "utf-8")
        start = time.monotonic()
        # short, as its sockets are in there
        with companion.scratch("aiperf-") as scratch:
            env = {**_environment(os.environ), "TMPDIR": scratch}
            code = called((str(self.program), *job.argv), job, watch, env)
        return Outcome(exit_code=code, error=_words(code, job), elapsed_s=time.monotonic() - start)


def _lines(job: Job) -> Iterator[str]:
    for (tokens, answer), at_s in zip_longest(job.lengths, job.times):
        due = {} if at_s is None else {"timestamp": round(at_s * MS, 3)}
        yield json.dumps({**due, "input_length": tokens, "output_length": answer}) + "\n"


def _environment(base: Mapping[str, str]) -> dict[str, str]:
    """Off proxies, as genai-bench's; told that Hugging Face is offline, it refuses a tokenizer in a folder."""
    return {name: text for name, text in environment(base).items() if name not in OFFLINE or name == "NETRC"}


def _words(code: int | None, job: Job) -> str | None:
    if code == 0:
        return None
    if code is None:
        return f"aiperf did not end within {job.timeout_s:g} s and was stopped"
    console = (job.folder / CONSOLE).read_text("utf-8", errors="replace")
    lines = [line.strip() for line in console.splitlines() if line.strip()]
    told = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "no output")
    return f"aiperf ended with exit code {code}: {told}"
