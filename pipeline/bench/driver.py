"""The resident genai-bench: a program that imports genai-bench once and forks a child per level.

Spoken to in JSON lines on stdin, answers in JSON lines on stdout (`resident.py` is the other end). It ends when stdin
ends, and its children with it. In the child, what costs time without measuring is replaced: plots, the spreadsheet
and the fixed sleeps after a run; what loses results (`keep_untimed`); and the users, who would not keep time
(`sending.py`). Prompts, payloads and the result file are genai-bench's own.

Must not import the rest of the project: nothing but genai-bench belongs into this process.
"""

import importlib
import json
import os
import random
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from pipeline.bench import choosing, leaner, prompts, sending
from pipeline.bench.workers import die_with_parent

UNTIMED = {"tpot", "output_inference_speed", "output_throughput"}  # None for an answer of one token, or in one piece

# gevent replaces these when genai-bench is imported; this process must block for real.
_select, _fork, _waitpid = select.select, os.fork, os.waitpid
_read, _write, _close = os.read, os.write, os.close


@dataclass(frozen=True)
class Child:
    """A forked level: `pipe` brings its last words and ends when it ends."""

    pid: int
    pipe: int
    id: int


class Driver:
    """The loop: at most one child at a time."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands = commands
        self.answers = answers
        self.begun: list[bytes] = []  # of a command: one with many prompts comes in thousands of pieces
        self.child: Child | None = None
        self.words = b""
        self.tokenizers: dict[str, Any] = {}

    def serve(self) -> None:
        """Work until stdin ends."""
        while True:
            watched = [self.commands, *([self.child.pipe] if self.child else [])]
            ready, _, _ = _select(watched, [], [])
            if self.child and self.child.pipe in ready:
                self.listen_to_child(self.child)
            if self.commands in ready and not self.read_commands():
                self.kill_child()
                return

    def read_commands(self) -> bool:
        """Handle the lines that have come; False at the end of stdin."""
        data = _read(self.commands, 65536)
        *ends, rest = data.split(b"\n")
        for end in ends:
            line = b"".join((*self.begun, end))
            self.begun.clear()
            self.handle(json.loads(line))
        self.begun.append(rest)
        return bool(data)

    def handle(self, command: Mapping[str, Any]) -> None:
        """One command."""
        match command["op"]:
            case "tokenizer":
                self.load_tokenizer(command["dir"])
                self.say(event="tokenizer", dir=command["dir"])
            case "level":
                self.start(command)
            case "cancel":
                self.kill_child()

    def load_tokenizer(self, folder: str) -> None:
        """Load it once, in the parent, for all children. A broken one is reported by the level that needs it."""
        from transformers import AutoTokenizer

        if folder not in self.tokenizers:
            try:
                self.tokenizers[folder] = AutoTokenizer.from_pretrained(folder)  # type: ignore[no-untyped-call, unused-ignore]
            except Exception:  # noqa: BLE001 - libraries raise what they like here, and the driver must live on
                traceback.print_exc()

    def start(self, command: Mapping[str, Any]) -> None:
        """Fork a child for one level."""
        ours, theirs = os.pipe()
        pid = _fork()
        if pid == 0:
            _close(ours)
            run_child(command, theirs, self.tokenizers)
        _close(theirs)
        self.words = b""
        self.child = Child(pid, ours, command["id"])

    def listen_to_child(self, child: Child) -> None:
        """Collect the child's words; at their end, say how it ended."""
        data = _read(child.pipe, 65536)
        self.words += data
        if data:
            return
        _close(child.pipe)
        _, status = _waitpid(child.pid, 0)
        self.child = None
        code = os.waitstatus_to_exitcode(status)
        self.say(event="done", id=child.id, exit_code=code, error=self.words.decode(errors="replace") or None)

    def kill_child(self) -> None:
        """End the child at once; its end is then told as always."""
        if self.child:
            os.kill(self.child.pid, signal.SIGKILL)

    def say(self, **event: object) -> None:
        """One answer. A reader that is gone will end our stdin too."""
        try:
            _write(self.answers, json.dumps(event).encode() + b"\n")
        except BrokenPipeError:
            return


def run_child(command: Mapping[str, Any], words: int, tokenizers: Mapping[str, Any]) -> NoReturn:
    """Be one genai-bench call, then leave without cleaning up the parent's things."""
    code = 1
    try:
        die_with_parent()
        _redirect(command["console"])
        os.environ.update(command.get("env") or {})
        _raise_limit()
        patch(command, tokenizers)
        code = call(command["argv"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - the child's last words, whatever happened
        traceback.print_exc()
        _write(words, f"{type(error).__name__}: {error}"[:4000].encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def call(argv: list[str]) -> int:
    """genai-bench's own command, as click runs it."""
    import gevent

    gevent.reinit()  # the hub does not survive a fork
    _genai_bench().cli.main(args=argv, prog_name="genai-bench", standalone_mode=False)
    return 0


def _genai_bench() -> Any:
    """The module whose names are replaced below; Any, because they are its private parts."""
    return importlib.import_module("genai_bench.cli.cli")


def patch(command: Mapping[str, Any], tokenizers: Mapping[str, Any]) -> None:
    """Leave out what does not measure; seed the prompts, so that every trial sees the same and no two levels do."""
    import numpy as np

    bench = _genai_bench()
    random.seed(command["seed"])
    np.random.seed(command["seed"] % 2**32)  # noqa: NPY002 - genai-bench draws from the global generator
    bench.gevent = SimpleNamespace(sleep=lambda _seconds: None)
    bench.plot_single_scenario_inference_speed_vs_throughput = _nothing
    bench.plot_experiment_data_flexible = bench.create_workbook = _nothing
    bench.load_one_experiment = lambda _folder: (None, None)
    prompts.install(bench, command)
    sending.install(bench, command)
    choosing.install(command)
    load = bench.validate_tokenizer
    bench.validate_tokenizer = lambda folder: tokenizers.get(folder) or load(folder)
    keep_untimed()
    if command.get("api_key"):
        bench.UnifiedAuthFactory = _with_key(bench.UnifiedAuthFactory, command["api_key"])


def keep_untimed() -> None:
    """Keep answers whose time per token cannot be told, by naming three more fields that may be empty.

    genai-bench drops those of one token without a word, and fails a level whose every answer came in one piece.
    """
    request = importlib.import_module("genai_bench.metrics.metrics").RequestLevelMetrics
    request.AUDIO_METRICS_FIELDS = request.AUDIO_METRICS_FIELDS | UNTIMED


def _with_key(factory: Any, key: str) -> Any:
    """The auth factory with the real key; on the command line, which genai-bench writes to disk, stands none."""

    def create(backend: str, **given: Any) -> Any:
        return factory.create_model_auth(backend, **{**given, "api_key": key})

    return SimpleNamespace(create_model_auth=create, create_storage_auth=factory.create_storage_auth)


def _nothing(*_args: object, **_kwargs: object) -> None:
    return


def _redirect(console: str) -> None:
    handle = os.open(console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _raise_limit() -> None:
    """As many open files as may be had: one for each user."""
    with suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Import genai-bench, say so, serve."""
    die_with_parent()
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    driver = Driver(commands=0, answers=answers)
    start = time.monotonic()
    leaner.install()
    bench = _genai_bench()
    driver.say(event="ready", seconds=round(time.monotonic() - start, 2), version=bench.GENAI_BENCH_VERSION)
    driver.serve()
    os._exit(0)  # nothing here is worth the time that taking such an interpreter down needs


if __name__ == "__main__":
    os.chdir(Path(os.sep))  # genai-bench writes to its working directory when it can
    main()
