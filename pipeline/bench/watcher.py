"""Keeps account of a level while it runs: what becomes of each request, and when the level is over.

Each event is a line of `requests.jsonl`, so that what was begun is known even if this process is killed; `ledger.py`
reads it. `sending.py` is what calls this, inside of genai-bench. Standard library only.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from pipeline.bench.stream import Answer

HOPELESS = 8  # failures, and none but failures, after which a level need not go on; more where there are more users
PATIENCE_S = 1.0  # that a request may be older than those that failed, and still not speak for the server


@dataclass
class Request:
    """One that has begun."""

    number: int
    began_s: float
    asked: int | None
    is_exact: bool  # the server was told to ignore the end of the text
    answer: Answer = field(default_factory=Answer)
    heard_s: float = 0.0  # when the server last sent anything


@dataclass
class Watcher:
    """The requests of one level. `write` takes a line of the ledger."""

    planned: int
    users: int
    drain_s: float
    write: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    open: dict[int, Request] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)  # whose tokens have to be counted
    lags: list[tuple[float, float]] = field(default_factory=list)  # when, and how late the event loop was
    begun: int = 0
    ended: int = 0
    failed: int = 0
    slowest_failure_s: float = 0.0
    is_closing: bool = False
    started_s: float = 0.0
    cpu_s: float = 0.0

    def start(self) -> None:
        """Begin to count time, at the first request or before."""
        if not self.started_s:
            self.started_s, self.cpu_s = self.clock(), time.process_time()
            self._say(planned=self.planned, drain_s=self.drain_s)

    @property
    def admits(self) -> bool:
        """Whether another request may begin."""
        return not self.is_closing and self.begun < self.planned and not self.is_hopeless

    def begin(self, payload: Mapping[str, Any]) -> Request:
        """A request is about to be sent."""
        self.start()
        now = self.clock()
        made = Request(self.begun, now, payload.get("max_tokens"), bool(payload.get("ignore_eos")), heard_s=now)
        self.begun += 1
        self.open[made.number] = made
        self._say(begin=made.number, at_s=now - self.started_s, asked=made.asked, is_exact=made.is_exact)
        return made

    def answered(self, request: Request) -> None:
        """It has its answer; whether that is what was asked for is judged by who reads the ledger."""
        answer = request.answer
        shape = answer.shape()
        if answer.output_tokens is None or shape["pieces"] < answer.output_tokens:
            self.texts[request.number] = answer.text
        times = {"ttft_s": answer.times[0] - request.began_s, "e2e_s": (answer.last_s or 0) - request.began_s}
        told = {name: getattr(answer, name) for name in ("input_tokens", "output_tokens", "finish_reason", "is_done")}
        self._end(request, how="answered", **times, **told, **shape, lag_s=self.lag_since(request.began_s))

    def failure(self, request: Request, how: str, cause: str, words: str) -> None:
        """It failed. `how`: failed (the server), client (we did), unreadable."""
        self.slowest_failure_s = max(self.slowest_failure_s, self.clock() - request.began_s)
        self.failed += request.number in self.open
        self._end(request, how=how, cause=cause, words=words, pieces=len(request.answer.times))

    @property
    def is_over(self) -> bool:
        """Whether every request that was planned has ended, or there is no hope that one will be answered."""
        return self.ended >= self.planned or self.is_hopeless

    @property
    def is_hopeless(self) -> bool:
        """Whether all have failed so far, and none is open that has waited longer than they."""
        if self.failed < self.ended or self.ended < max(HOPELESS, 2 * self.users):
            return False
        age_s = max((self.clock() - each.began_s for each in self.open.values()), default=0.0)
        return age_s < self.slowest_failure_s + PATIENCE_S

    def close(self, count: Callable[[str], int]) -> None:
        """Write what is left to say: requests that are still open, tokens that the server did not count, ourselves."""
        now, is_hopeless = self.clock(), self.is_hopeless
        for each in list(self.open.values()):
            if each.answer.is_whole:
                self.answered(each)
                continue  # nothing but [DONE] is missing
            ages = {"open_s": now - each.began_s, "silent_s": now - each.heard_s}
            pieces = {"pieces": len(each.answer.times), "asked": each.asked}
            self._say(end=each.number, how="stopped" if is_hopeless else "open", **ages, **pieces)
        self.open.clear()
        cpu_share = (time.process_time() - self.cpu_s) / max(now - self.started_s, 1e-9)
        for number, text in self.texts.items():
            with suppress(Exception):  # a tokenizer that cannot count it leaves it uncounted
                self._say(counted=number, text_tokens=count(text))
        late = sorted(lag for _, lag in self.lags) or [0.0]
        client = {"cpu_share": cpu_share, "lag_p99_s": late[int(0.99 * (len(late) - 1))], "lag_max_s": late[-1]}
        self._say(
            closed="hopeless" if is_hopeless else "whole" if self.ended >= self.planned else "cut",
            begun=self.begun,
            duration_s=now - self.started_s,
            client=client,
        )

    def lag_since(self, begin_s: float) -> float:
        """The longest time that this process did not come to read."""
        since = takewhile(lambda one: one[0] >= begin_s, reversed(self.lags))
        return max((lag for _, lag in since), default=0.0)

    def _end(self, request: Request, **told: Any) -> None:
        if self.open.pop(request.number, None) is not None:  # else the level was closed before
            self.ended += 1
            self._say(end=request.number, at_s=self.clock() - self.started_s, **told)

    def _say(self, **told: Any) -> None:
        self.write(json.dumps(told) + "\n")
