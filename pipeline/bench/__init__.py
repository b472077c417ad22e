"""Measures with a load generator, one run per level. Several ways to do it; the numbers mean the same.

`resident` imports genai-bench once and forks per level; `cli` calls the command itself and is the reference, and
`in_cluster` does so in a Kubernetes Job. `aiperf` calls another program, from an environment of its own.
"""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline.core.schema import Bench
from pipeline.core.schema_backends import Cluster
from pipeline.core.values import value
from pipeline.machine.companion import Watch

__all__ = ["Ask", "Beside", "Chosen", "Job", "Outcome", "Runner", "Watch", "close", "installed_program", "runner"]


@value
class Beside:
    """Where in a cluster a call of genai-bench runs."""

    cluster: Cluster
    manifest: Mapping[str, Any]  # of the Kubernetes Job, without an owner
    owner: str  # the Job that owns it, the trial's dead man's switch
    start_timeout_s: float  # for the image to be pulled, and the pod to start


@value
class Ask:
    """A request of the user's own. Messages are (role, text). `answer`: the recorded one, or how many tokens it has."""

    messages: tuple[tuple[str, str], ...]
    answer: str | int


@value
class Chosen:
    """How a level's prompts are chosen where that is not genai-bench's own way: sent, or begun alike."""

    asks: tuple[Ask, ...] = ()  # the level's requests in their order; empty: prompts are drawn
    warming: tuple[Ask, ...] = ()  # requests before a level of these
    ignore_eos: bool = True
    prefix_tokens: int | None = None
    prefix_ratio: float | None = None
    prefixes: int = 1
    longest_prefix: int = 0  # tokens, for prefix_ratio


@value
class Job:
    """One call of the load generator. `argv` is `benchmark --api-backend ...`; the API key is not in it."""

    argv: tuple[str, ...]
    label: str  # the trial's lease: what is started for it can be found by it
    folder: Path
    seed: int
    users: int  # 1 where requests are sent at a rate
    max_requests: int
    max_time_s: float  # no request begins after it
    drain_s: float  # for those that are then open to finish
    timeout_s: float
    chosen: Chosen | None = None  # None: by genai-bench alone
    warms: bool = False  # send what warms the prefix cache, not the level
    beside: Beside | None = None  # None: it runs on this machine
    rate: float | None = None  # requests per second; None: each user waits for its answers
    times: tuple[float, ...] = ()  # when each request is sent, since the level began
    max_in_flight: int | None = None
    lengths: tuple[tuple[int, int], ...] = ()  # tokens of each prompt and answer, for aiperf
    workers: int | None = None  # processes of the resident runner that share the users; None: as many as they take


@value
class Outcome:
    """How the call ended. `error` is None when genai-bench reported success."""

    exit_code: int | None
    error: str | None
    elapsed_s: float


class Runner(Protocol):
    """Calls the load generator."""

    def start(self, tokenizer_dir: Path | None = None) -> None:
        """Begin what can be done before there is a server, and return at once. May be called again."""

    def wait_ready(self, *, timeout_s: float, watch: Watch) -> None:
        """Wait until a level can start without delay. Raises BenchFailed."""

    def run(self, job: Job, watch: Watch) -> Outcome:
        """Run one level. A call that hangs or dies gives an Outcome, not an error; what `watch` raises is raised."""

    def close(self) -> None:
        """End every process of the runner."""


_running: dict[tuple[str, Path | None], Runner] = {}


def runner(config: Bench, log: Path) -> Runner:
    """The runner of this process, made on first use and kept for its later trials with the same program."""
    name = "cluster" if config.location == "cluster" else config.runner
    key = (name, config.program)
    if key not in _running:
        _running[key] = _make(name, config, log)
    return _running[key]


def _make(name: str, config: Bench, log: Path) -> Runner:
    if name == "cluster":
        from pipeline.bench.in_cluster import InCluster

        return InCluster()
    if name == "cli":
        from pipeline.bench.cli import Cli

        return Cli((config.program or installed_program()).absolute())
    if name == "aiperf":
        from pipeline.bench.aiperf import Aiperf
        from pipeline.bench.aiperf_command import PROGRAM

        return Aiperf((config.program or Path(shutil.which(PROGRAM) or PROGRAM)).absolute())
    from pipeline.bench.resident import Resident

    return Resident(log)


def installed_program() -> Path:
    """The genai-bench command of this environment."""
    return Path(sys.executable).with_name("genai-bench")


def close() -> None:
    """End the runners of this process."""
    while _running:
        _running.popitem()[1].close()
