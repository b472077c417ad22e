"""Shares a level's users, or its arrivals, out to processes, and makes one account of what they say.

Runs in the forked child of driver.py, which forks again where one core is not enough. Standard library only.
"""

import ctypes
import gc
import json
import math
import mmap
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Any, NoReturn

from pipeline.bench.connection import Server, stamping
from pipeline.bench.keeping import server_keeps
from pipeline.bench.loop import Loop
from pipeline.bench.pacing import Closed, Open, Pace
from pipeline.bench.watcher import Tally, Watcher, closing, opening
from pipeline.bench.wire import Prepared

USERS_EACH = 512  # that one process serves well: at 20 ms per token it takes about a third of a core
PR_SET_PDEATHSIG = 1

# gevent replaces these when genai-bench is imported; a worker must block for real.
_select, _fork, _waitpid, _pair = select.select, os.fork, os.waitpid, socket.socketpair


class WorkerDied(Exception):
    """A part of the load generator is gone: what became of its requests is not known."""


@dataclass(frozen=True)
class Level:
    """What is to be sent. `write` takes a line of the ledger."""

    planned: int
    users: int  # 0: requests are sent at `times`
    max_time_s: float
    drain_s: float
    write: Callable[[str], object]
    keeps: bool = True  # connections
    times: Sequence[float] = ()  # of each request since the level began, rising
    rate: float | None = None  # requests per second, in the mean of `times`
    max_in_flight: int | None = None


@dataclass(frozen=True)
class Prompts:
    """Those that were made before the level, and how more are made."""

    made: Sequence[Prepared]
    make: Callable[[], Prepared]

    def of(self, numbers: Iterator[int]) -> Iterator[Prepared]:
        """One for each of `numbers`, which rise."""
        for number in numbers:
            yield self.made[number] if number < len(self.made) else self.make()


@dataclass(frozen=True)
class Means:
    """What every worker uses: its prompts, where the server is, and what counts the tokens of a text."""

    prompts: Prompts
    locate: Callable[[], Server]
    tokens: Callable[[str], int]
    question: bytes = b""  # a request that tells whether the server keeps connections

    def keeps(self) -> bool:
        """Whether connections can be kept."""
        with suppress(OSError):
            return server_keeps(self.locate(), self.question)
        return False


@dataclass(frozen=True)
class Share:
    """What one of `workers` does: each round of the users, or of the workers, begins where the last one ended."""

    worker: int
    workers: int
    level: Level

    @property
    def users(self) -> int:
        """How many are its own."""
        return len(self._places)

    @property
    def planned(self) -> int:
        """How many requests are its own: by its users, however unequal the shares are."""
        rounds, rest = divmod(self.level.planned, self._round)
        return rounds * self.users + sum(place < rest for place in self._places)

    def numbers(self) -> Iterator[int]:
        """Of its requests, among those of the level; without an end."""
        return (turn * self._round + place for turn in count() for place in self._places)

    def pace(self) -> Pace:
        """When its requests are sent."""
        if self.level.users:
            return Closed(self.users)
        most = self.level.max_in_flight
        mine = most and len(range(self.worker, most, self.workers))
        return Open(self.level.times[self.worker :: self.workers], mine)

    @property
    def _round(self) -> int:
        return self.level.users or self.workers

    @property
    def _places(self) -> range:
        return range(self.worker, self._round, self.workers)


def enough(users: float, cores: int | None = None) -> int:
    """How many processes `users` take, leaving the server a core."""
    have = cores or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return max(1, min(math.ceil(users / USERS_EACH), have - 1))


def run(level: Level, workers: int, means: Means) -> None:
    """Send the level's requests.

    Raises:
        WorkerDied: one of several did not come to its end.
    """
    with stamping():
        _run(level, workers, means)


def _run(level: Level, workers: int, means: Means) -> None:
    level.write(opening(level.planned, level.drain_s, level.rate))
    most = level.users or min(level.planned, level.max_in_flight or level.planned)
    workers, keeps = min(workers, most), means.keeps()
    level = replace(level, keeps=keeps)
    if workers == 1:
        parts = [work(Share(0, 1, level), means, Tally(), time.monotonic)]
    else:
        parts = _forked(level, workers, means)
    level.write(closing(parts, level.users))


def work(share: Share, means: Means, tally: Tally, begin: Callable[[], float]) -> dict[str, Any]:
    """Be one worker. `begin` waits until all are ready, and gives the time at which the level began."""
    level = share.level
    numbers, drain_s = share.numbers(), level.drain_s
    watcher = Watcher(share.planned, level.users, drain_s, level.write, numbers=numbers, tally=tally)
    loop = Loop(watcher, means.prompts.of(share.numbers()), share.pace(), means.locate, keeps=level.keeps)
    gc.freeze()  # a look through all of genai-bench's objects takes longer than a token
    gc.disable()
    try:
        loop.open_ahead()
        watcher.start(begin())
        loop.run(level.max_time_s)
        late = sum(number >= len(means.prompts.made) for number in islice(share.numbers(), watcher.begun))
        return {**watcher.close(means.tokens), "keeps": loop.keeps, "late_prompts": late}
    finally:
        loop.close()
        gc.enable()
        gc.unfreeze()


@dataclass
class Fork:
    """A worker in a process of its own, and what it has said."""

    number: int
    pid: int
    pipe: socket.socket
    words: bytes = b""

    def listen(self) -> bool:
        """Take what it says; whether more may come."""
        data = self.pipe.recv(65536)
        self.words += data
        return bool(data)


@dataclass
class _Crew:
    """Several workers: they are ready, begin together, and end with a part of the account each."""

    forks: list[Fork] = field(default_factory=list)

    def parts(self) -> list[dict[str, Any]]:
        self._listen(lambda fork: fork.words.endswith(b"\n"))  # ready
        began = repr(time.monotonic()).encode()
        for fork in self.forks:
            fork.words = b""
            fork.pipe.sendall(began)
        self._listen(lambda fork: fork.words.endswith(b"\n"))
        return [json.loads(fork.words) for fork in self.forks]

    def _listen(self, has_said: Callable[[Fork], bool]) -> None:
        while waiting := {fork.pipe: fork for fork in self.forks if not has_said(fork)}:
            ready, _, _ = _select([*waiting], [], [])
            for pipe in ready:
                if not waiting[pipe].listen():
                    raise WorkerDied(self._words(waiting[pipe]))

    def _words(self, fork: Fork) -> str:
        _, status = _waitpid(fork.pid, 0)
        fork.pipe.close()
        self.forks.remove(fork)
        code = os.waitstatus_to_exitcode(status)
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        total = len(self.forks) + 1
        said = fork.words.decode(errors="replace").strip()
        words = f"worker {fork.number + 1} of {total} of the load generator ended early: {how}"
        return f"{words}: {said}" if said else f"{words}; what became of its requests is not known"

    def end(self) -> None:
        for fork in self.forks:
            fork.pipe.close()
            os.kill(fork.pid, signal.SIGKILL)
            _waitpid(fork.pid, 0)


def _forked(level: Level, workers: int, means: Means) -> list[dict[str, Any]]:
    places = memoryview(mmap.mmap(-1, workers * 16)).cast("q")  # ended and failed, of each
    crew = _Crew()
    try:
        for number in range(workers):
            ours, theirs = _pair()
            pid = _fork()
            if pid == 0:
                ours.close()
                _be(Share(number, workers, level), means, Tally(places, number), theirs)
            theirs.close()
            crew.forks.append(Fork(number, pid, ours))
        return crew.parts()
    finally:
        crew.end()


def _be(share: Share, means: Means, tally: Tally, pipe: socket.socket) -> NoReturn:
    """Be a worker, then leave without cleaning up the parent's things."""
    code = 1
    try:
        die_with_parent()
        random.seed(hash((random.getrandbits(64), share.worker)))  # two workers must not make the same prompts

        def begin() -> float:
            pipe.sendall(b"ready\n")
            return float(pipe.recv(64))

        part = work(share, means, tally, begin)
        pipe.sendall(json.dumps(part).encode() + b"\n")
        code = 0
    except BaseException as error:  # noqa: BLE001 - its last words, whatever happened
        words = f"{type(error).__name__}: {error}"[:4000].strip()  # what ends with a line is an account
        pipe.sendall(words.encode(errors="replace"))
    finally:
        os._exit(code)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent is gone (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
