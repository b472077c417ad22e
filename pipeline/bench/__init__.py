"""Measuring with genai-bench, one run per level. Two ways to call it, one meaning of the numbers.

`resident` imports genai-bench once and forks per level; `cli` calls the command itself and is the reference.
"""

import sys
from pathlib import Path
from typing import Protocol

from pipeline.companion import Watch
from pipeline.schema import Bench
from pipeline.values import value

__all__ = ["Job", "Outcome", "Runner", "Watch", "close", "installed_program", "runner"]


@value
class Job:
    """One call of genai-bench. `argv` is `benchmark --api-backend ...`; the API key is not in it."""

    argv: tuple[str, ...]
    label: str  # the trial's lease: what is started for it can be found by it
    folder: Path
    seed: int
    max_time_s: float
    timeout_s: float


@value
class Outcome:
    """How the call ended. `error` is None when genai-bench said it went well."""

    exit_code: int | None
    error: str | None
    elapsed_s: float


class Runner(Protocol):
    """Calls genai-bench."""

    def start(self, tokenizer_dir: Path | None = None) -> None:
        """Begin what can be done before a server is there, without waiting for it. May be called again."""

    def wait_ready(self, *, timeout_s: float, watch: Watch) -> None:
        """Wait until a level can start at once. Raises BenchFailed."""

    def run(self, job: Job, watch: Watch) -> Outcome:
        """Run one level; a call that hangs or dies is an Outcome, not an error. What `watch` raises comes through."""

    def close(self) -> None:
        """End every process of the runner."""


_running: dict[str, Runner] = {}


def runner(config: Bench, log: Path) -> Runner:
    """The runner of this process, made on first use and kept for its later trials."""
    if config.runner not in _running:
        if config.runner == "cli":
            from pipeline.bench.cli import Cli

            _running[config.runner] = Cli(config.program or installed_program())
        else:
            from pipeline.bench.resident import Resident

            _running[config.runner] = Resident(log)
    return _running[config.runner]


def installed_program() -> Path:
    """The genai-bench command of this environment."""
    return Path(sys.executable).with_name("genai-bench")


def close() -> None:
    """End the runners of this process."""
    while _running:
        _running.popitem()[1].close()
