"""Worker processes on this machine that run one trial at a time each, for as many trials as come.

A worker that dies costs the trial it was at, never the sweep. Workers are in sessions of their own: a Ctrl-C of the
terminal reaches this process alone, which passes it on, waits for every teardown and leaves none of them behind.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import connection
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipeline.core.errors import Interrupted, PipelineError, WorkerDied
from pipeline.core.files import SweepDir
from pipeline.core.record import Record
from pipeline.core.values import now
from pipeline.machine import process, signals
from pipeline.machine.progress import Display, Progress
from pipeline.sweep.launchers.messages import Done, Ended, Step

R = TypeVar("R")
STOP_S = 240.0  # for the teardown, the record and the tracker of a trial that was told to stop
CLOSE_S = 15.0  # for a worker without a trial to end


@dataclass(frozen=True)
class Task:
    """A trial to run: what people are told of it, and what the worker is sent."""

    number: int
    telling: tuple[str, ...]
    payload: Any


@dataclass(frozen=True)
class Lost:
    """A trial whose worker ended before the trial did."""

    task: Task
    at: str  # the step it was in
    given_at: datetime
    error: WorkerDied | Interrupted


class Worker:
    """The near end of `pipeline.sweep.launchers.worker`."""

    def __init__(self, log: Path, shown: Progress) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.shown = shown
        self.child = process.spawn_piped(process.python("pipeline.sweep.launchers.worker"), log=log, env=os.environ)
        self.jobs, self.answers = _ends(self.child.stdin, self.child.stdout)
        self.is_ready = False
        self.task: Task | None = None
        self.given_at = now()
        self.at = "run"
        self.has_ended = False  # the trial has left its record

    def give(self, task: Task) -> None:
        """Let it run a trial; a worker that is gone is noticed by the end of its answers."""
        self.task, self.given_at, self.at, self.has_ended = task, now(), "run", False
        self.shown.begin(task.number, task.telling)
        try:
            self.jobs.send(task.payload)
        except OSError:
            return

    def answer(self) -> object:
        """Its next message; None when it is gone, in the middle of one too."""
        try:
            return self.answers.recv()
        except (EOFError, OSError):
            return None

    def hear(self, message: object) -> None:
        """Show what its trial has come to."""
        self.is_ready = True
        if isinstance(message, Step):
            self.at = message.name
            self.shown.step(message.name, message.detail)
        elif isinstance(message, Ended):
            self.has_ended = True
            self.shown.ended(message.record)

    def end(self, *, timeout_s: float) -> str:
        """Let it go home, or kill it; how it ended, in words."""
        self.jobs.close()
        if not process.wait_until(lambda: self.child.poll() is not None, timeout_s=timeout_s):
            self.child.kill()
        code = self.child.wait()
        self.answers.close()
        return process.signal_name(-code) if code < 0 else f"exit code {code}"


class Pool(Generic[R]):
    """At most `size` workers. `bury` makes the record and the result of a trial whose worker was lost."""

    def __init__(self, size: int, sweep: SweepDir, display: Display, bury: Callable[[Lost], tuple[Record, R]]) -> None:
        self.size = size
        self.sweep = sweep
        self.display = display
        self.bury = bury
        self.workers: list[Worker] = []
        self.started = 0
        self.signum: int | None = None  # what the workers were told to stop by

    def run(self, tasks: Iterable[Task], told: Callable[[int, R], None] = lambda _number, _result: None) -> list[R]:
        """The result of each task, in the order of their numbers; `told` hears of each as soon as there is one.

        Raises:
            Interrupted: a signal came. Every trial that ran has been torn down by its worker.
            PipelineError: a worker does not even start.
        """
        waiting = iter(tasks)
        results: dict[int, R] = {}
        try:
            with signals.held():
                self._hand_out(waiting)
                while any(worker.task for worker in self.workers):
                    for worker in self._heard_from():
                        new = self._listen(worker)
                        results |= new
                        for number, result in new.items():
                            told(number, result)
                    self._hand_out(waiting)
        except Interrupted as stop:
            signals.acknowledge()  # by what follows; a second signal waits for it
            with signals.held():
                self.stop(stop.signum)
            raise
        return [results[number] for number in sorted(results)]

    def stop(self, signum: int) -> None:
        """Have every trial torn down by its worker, and wait for that; a worker that takes too long is killed."""
        self.signum = signum
        for worker in self.workers:
            worker.child.send_signal(signum)
        end = time.monotonic() + STOP_S
        while self.workers:
            ready = self._ready(timeout_s=max(0.0, end - time.monotonic()))
            for worker in ready or self.workers:
                if not ready:
                    worker.child.kill()
                self._listen(worker)

    def close(self) -> None:
        """End every worker; one that still has a trial as by SIGTERM."""
        if any(worker.task for worker in self.workers):
            self.stop(signal.SIGTERM)
        for worker in self.workers:
            worker.jobs.close()
        while self.workers:
            self.workers.pop().end(timeout_s=CLOSE_S)

    def _hand_out(self, waiting: Iterator[Task]) -> None:
        while (worker := self._free()) and (task := next(waiting, None)):
            worker.give(task)

    def _free(self) -> Worker | None:
        """A worker without a trial, started if there may be one more."""
        for worker in self.workers:
            if worker.task is None and worker.child.poll() is None:
                return worker
        if sum(worker.task is not None for worker in self.workers) >= self.size:
            return None
        self.workers.append(Worker(self.sweep.worker_log(self.started), self.display.beside()))
        self.started += 1
        return self.workers[-1]

    def _heard_from(self) -> list[Worker]:
        with signals.heard():
            return self._ready(timeout_s=None)

    def _ready(self, *, timeout_s: float | None) -> list[Worker]:
        """The workers that have said something, or have ended."""
        found = connection.wait([worker.answers for worker in self.workers], timeout_s)
        return [worker for worker in self.workers if worker.answers in found]

    def _listen(self, worker: Worker) -> dict[int, R]:
        """Take one message; the result, if that was it."""
        message = worker.answer()
        if message is None:
            return self._lost(worker)
        if not isinstance(message, Done):
            worker.hear(message)
            return {}
        task, worker.task = worker.task, None
        return {task.number: message.result} if task else {}

    def _lost(self, worker: Worker) -> dict[int, R]:
        """A worker has ended: the result of its trial, if it was at one that left none."""
        self.workers.remove(worker)
        how, task = worker.end(timeout_s=CLOSE_S), worker.task
        if task is None or (worker.has_ended and self.signum):
            return {}
        if not worker.is_ready and self.signum is None:
            raise PipelineError(f"A worker process does not start: {how}.", hint=f"Read {worker.log}.")
        died = WorkerDied(
            f"The worker process that ran this trial ended before the trial did: {how}. See {worker.log}."
        )
        error = died if self.signum is None else Interrupted(self.signum)
        record, result = self.bury(Lost(task, worker.at, worker.given_at, error))
        if not worker.has_ended:
            worker.shown.ended(record)
        return {task.number: result}


def _ends(stdin: Any, stdout: Any) -> tuple["connection.Connection[Any, Any]", "connection.Connection[Any, Any]"]:
    """The pipes to and from a child, as connections that carry whole messages."""
    with stdin, stdout:
        return (
            connection.Connection(os.dup(stdin.fileno()), readable=False),
            connection.Connection(os.dup(stdout.fileno()), writable=False),
        )
