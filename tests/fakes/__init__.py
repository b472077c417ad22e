"""Small working stand-ins for what a trial talks to: an engine, a backend, a bench runner, a display."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from pipeline.backends import Deployment, Tell
from pipeline.backends.lease import Lease
from pipeline.bench import Job, Outcome, Watch
from pipeline.config import planning
from pipeline.core.plan import Assets, Plan
from pipeline.core.record import Record
from pipeline.core.schema import Config
from pipeline.core.schema_hardware import Seen
from pipeline.core.values import now
from pipeline.machine import identity
from support.records import make_config

Answer = tuple[int, Any]


class FakeEngine:
    """An HTTP server that answers from a table `METHOD /path: (status, body)`; a list is given out in its order."""

    def __init__(self, port: int = 0, /, **answers: Answer | list[Answer]) -> None:
        self.answers: dict[str, Answer | list[Answer]] = dict(answers)
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        handler = type("Handler", (_Handler,), {"engine": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, line: str, key: str | None) -> Answer:
        """The next answer to `GET /health`; 404 for what is not in the table."""
        self.asked.append(line)
        self.keys.append(key)
        found = self.answers.get(line, (404, {}))
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.01])
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    engine: FakeEngine

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = self.engine.answer(f"{self.command} {self.path}", self.headers.get("Authorization"))
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Keep the tests' output for what matters."""


def make_lease(run_dir: Path) -> Lease:
    """A lease of this process."""
    return Lease(
        label="sweep-7-abcd",
        backend="pipeline.backends.local.Local",
        owner=identity.of(),
        run_dir=run_dir,
        created_at=now(),
        stop_grace_s=1.0,
        host="127.0.0.1",
    )


def make_deployment(run_dir: Path, url: str = "http://127.0.0.1:9") -> Deployment:
    """A server at `url`."""
    return Deployment(lease=make_lease(run_dir), url=url, port=int(url.rpartition(":")[2]), pid=None)


def make_plan(run_dir: Path, *, timeout_s: float = 5.0, interval_s: float = 0.01, **changes: Any) -> Plan:
    """A plan of the configuration in records.py, in a hurry."""
    files = Assets(model_path=Path("/m.gguf"), tokenizer_dir=Path("/tok"))
    made = planning.make(make_config(), files, sweep_id="sweep", number=7, run_dir=run_dir)
    return replace(made, health=replace(made.health, timeout_s=timeout_s, interval_s=interval_s), **changes)


class FakeBackend:
    """A server that is in the state it is told to be in: `how` it ended, and whether the port `is_ours`."""

    def __init__(self, how: str | None = None, *, is_ours: bool = True) -> None:
        self.how = how
        self.is_ours = is_ours

    def checks(self, config: Config) -> Iterator[tuple[str, Callable[[Config], str]]]:
        """Nothing can be wrong."""
        return iter(())

    def gpus(self, config: Config) -> tuple[Seen, ...]:
        """None."""
        return ()

    def prepare(self, plan: Plan, tell: Tell) -> None:
        """Nothing to fetch."""

    def await_room(self, plan: Plan, tell: Tell) -> None:
        """No other trial has anything."""

    def deploy(self, plan: Plan, lease: Lease) -> Deployment:
        """A server that serves nothing."""
        return make_deployment(plan.run_dir)

    def death(self, deployment: Deployment) -> str | None:
        """As told."""
        return self.how

    def condition(self, deployment: Deployment) -> str | None:
        """Nothing is said."""
        return None

    def owns_listener(self, deployment: Deployment) -> bool:
        """As told."""
        return self.is_ours

    def teardown(self, lease: Lease) -> tuple[str, ...]:
        """It is dead afterwards."""
        self.how = "exit code 0"
        return ()


@dataclass
class Call:
    """What one call of genai-bench does."""

    answered: int = 8
    failed: int = 0
    code: int = 503  # of those that failed
    ttft_s: float = 0.2
    error: str | None = None
    writes: str = "{name}_time_1s.json"  # or debug_for_run_{name}.json, or nothing
    kills: str | None = None  # the server ends in the middle, in this way
    kills_late: str | None = None  # it ends after the last look at it
    raises: BaseException | None = None
    then: Call | None = None  # what the next call of the same level does


@dataclass
class FakeRunner:
    """genai-bench as a table: `scenario folder/concurrency`, or concurrency alone, to what the call does."""

    backend: FakeBackend
    table: Mapping[str, Call] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)

    def start(self, tokenizer_dir: Path | None = None) -> None:
        """Ready at once."""

    def wait_ready(self, *, timeout_s: float, watch: Watch) -> None:
        """Ready at once."""
        watch()

    def run(self, job: Job, watch: Watch) -> Outcome:
        """Do as the table says."""
        self.jobs.append(job)
        name = f"{job.folder.parent.name}/{job.folder.name}"
        call = self.table.get(name) or self.table.get(job.folder.name) or Call()
        before = sum(earlier.folder == job.folder for earlier in self.jobs[:-1])
        for _ in range(before):
            call = call.then or call
        self.backend.how = call.kills or self.backend.how
        watch()
        if call.raises:
            raise call.raises
        _write(job.folder, call)
        self.backend.how = call.kills_late or self.backend.how
        return Outcome(exit_code=1 if call.error else 0, error=call.error, elapsed_s=1.25)

    def close(self) -> None:
        """Nothing runs."""


def _write(folder: Path, call: Call) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    times = {"ttft": call.ttft_s, "tpot": 0.02, "e2e_latency": 0.5, "num_input_tokens": 64, "num_output_tokens": 16}
    requests = [times] * call.answered + [{"error_code": call.code}] * call.failed
    data = {"aggregated_metrics": {"run_duration": 2.0}, "individual_request_metrics": requests}
    if call.writes:
        (folder / call.writes.format(name="D64_16")).write_text(json.dumps(data))


@dataclass
class FakeProgress:
    """Remembers what it is told."""

    told: list[str] = field(default_factory=list)

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """Remember it."""
        self.told.append(f"begin {number} {' '.join(overrides)}")

    def step(self, name: str, detail: str = "") -> None:
        """Remember it."""
        self.told.append(f"{name} {detail}".strip())

    def ended(self, record: Record) -> None:
        """Remember it."""
        self.told.append(f"ended {record.number}")

    def close(self) -> None:
        """Remember it."""
        self.told.append("close")
