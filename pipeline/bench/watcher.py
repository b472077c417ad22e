"""Keeps account of a level while it runs: what becomes of each request, and when the level is over.

Each event is a line of `requests.jsonl`, so that what was begun is known even if this process is killed; `ledger.py`
reads it. `loop.py` is what calls this, beside genai-bench. Standard library only.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from pipeline.bench.lags import Lags
from pipeline.bench.stream import Answer
from pipeline.bench.wire import Prepared

HOPELESS = 8  # failures, and none but failures, after which a level need not go on; more where there are more users
PATIENCE_S = 1.0  # that a request may be older than those that failed, and still not speak for the server


@dataclass
class Request:
    """One that has begun."""

    number: int
    began_s: float
    asked: int | None
    is_exact: bool  # the server was told to ignore the end of the text
    tokens: int | None = None  # of its prompt, as genai-bench counts
    answer: Answer = field(default_factory=Answer)
    heard_s: float = 0.0  # when the server last sent anything
    lag_s: float = 0.0  # the longest time that something of the answer was there before we read it
    is_told: bool = False  # the ledger has its beginning
    due_s: float | None = None  # when it was to be sent, in an open loop
    late_s: float = 0.0  # so much later it was taken up
    is_held: bool = False  # because traffic.max_in_flight held it back


@dataclass
class Tally:
    """How many requests have ended and failed so far, of all workers; each writes in a place of its own."""

    places: Any = field(default_factory=lambda: [0, 0])  # ended, failed, ended, failed, ...
    mine: int = 0

    def add(self, *, failed: bool) -> None:
        """One of ours has ended."""
        self.places[2 * self.mine] += 1
        self.places[2 * self.mine + 1] += failed

    @property
    def ended(self) -> int:
        """Of all workers."""
        return int(sum(self.places[::2]))

    @property
    def failed(self) -> int:
        """Of all workers."""
        return int(sum(self.places[1::2]))


@dataclass
class Watcher:
    """The requests that one worker sends in a level. `write` takes a line of the ledger."""

    planned: int
    users: int  # of all workers
    drain_s: float
    write: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    numbers: Iterator[int] = field(default_factory=count)
    tally: Tally = field(default_factory=Tally)
    open: dict[int, Request] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)  # whose tokens have to be counted
    lags: Lags = field(default_factory=Lags)  # of reading
    unsure: Lags = field(default_factory=Lags)  # how far times may be too late for that: of first tokens, mostly
    begun: int = 0
    ended: int = 0
    waited_s: float = 0.0  # that users of ours had no request open, between two
    resent: int = 0  # requests that a server which closed a kept connection did not answer at all
    slowest_failure_s: float = 0.0
    is_closing: bool = False
    started_s: float = 0.0
    cpu_s: float = 0.0

    def start(self, at_s: float | None = None) -> None:
        """Begin to count time, at the first request or before."""
        if not self.started_s:
            self.started_s, self.cpu_s = at_s or self.clock(), time.process_time()

    @property
    def admits(self) -> bool:
        """Whether another request may begin."""
        return not self.is_closing and self.begun < self.planned and not self.is_hopeless

    def begin(self, prepared: Prepared, due_s: float | None = None, *, is_held: bool = False) -> Request:
        """A request is about to be sent; a connection may have to be opened for it. `due_s`: it was to be sent then."""
        self.start()
        now = self.clock()
        made = Request(next(self.numbers), now, prepared.asked, prepared.is_exact, prepared.tokens, heard_s=now)
        if due_s is not None:
            made.due_s, made.late_s, made.is_held = due_s - self.started_s, max(0.0, now - due_s), is_held
        self.begun += 1
        self.open[made.number] = made
        return made

    def sent(self, request: Request, at_s: float) -> None:
        """Its first byte was written at `at_s`: its clock runs."""
        request.began_s = request.heard_s = at_s
        self._tell_begin(request)

    def answered(self, request: Request, at_s: float | None = None) -> None:
        """It has its answer; whether that is what was asked for is judged by who reads the ledger."""
        answer = request.answer
        shape = answer.shape()
        if answer.output_tokens is None or shape["pieces"] < answer.output_tokens:
            self.texts[request.number] = answer.text
        times = {"ttft_s": answer.times[0] - request.began_s, "e2e_s": (answer.last_s or 0) - request.began_s}
        names = ("input_tokens", "output_tokens", "cached_tokens", "finish_reason", "is_done")
        told = {name: getattr(answer, name) for name in names}
        self._end(request, at_s, how="answered", **times, **told, **shape, lag_s=request.lag_s)

    def failure(self, request: Request, how: str, cause: str, words: str, at_s: float | None = None) -> None:
        """It failed. `how`: failed (the server), client (we did), unreadable."""
        self.slowest_failure_s = max(self.slowest_failure_s, self.clock() - request.began_s)
        self._end(request, at_s, how=how, cause=cause, words=words, pieces=len(request.answer.times))

    @property
    def is_over(self) -> bool:
        """Whether every request that was planned has ended, or there is no hope that one will be answered."""
        return self.ended >= self.planned or self.is_hopeless

    @property
    def is_hopeless(self) -> bool:
        """Whether all have failed so far, and none is open that has waited longer than they."""
        ended = self.tally.ended
        if self.tally.failed < ended or ended < max(HOPELESS, 2 * self.users):
            return False
        age_s = max((self.clock() - each.began_s for each in self.open.values()), default=0.0)
        return age_s < self.slowest_failure_s + PATIENCE_S

    def close(self, count: Callable[[str], int]) -> dict[str, Any]:
        """Write what is left to say: requests that are still open, tokens that the server did not count.

        Gives what `closing` makes the last line of.
        """
        now, is_hopeless = self.clock(), self.is_hopeless
        cpu_s = time.process_time() - self.cpu_s
        for each in list(self.open.values()):
            if each.answer.is_whole:
                self.answered(each)
                continue  # nothing but [DONE] is missing
            self._tell_begin(each)
            ages = {"open_s": now - each.began_s, "silent_s": now - each.heard_s}
            pieces = {"pieces": len(each.answer.times), "asked": each.asked}
            self._say(end=each.number, how="stopped" if is_hopeless else "open", **ages, **pieces)
        self.open.clear()
        for number, text in self.texts.items():
            with suppress(Exception):  # a tokenizer that cannot count it leaves it uncounted
                self._say(counted=number, text_tokens=count(text))
        duration_s = now - self.started_s
        return {
            "how": "hopeless" if is_hopeless else "whole" if self.ended >= self.planned else "cut",
            "begun": self.begun,
            "duration_s": duration_s,
            "cpu_share": cpu_s / max(duration_s, 1e-9),
            "waited_s": self.waited_s,
            "resent": self.resent,
            "lags": self.lags.counts,
            "unsure": self.unsure.counts,
        }

    def _end(self, request: Request, at_s: float | None, **told: Any) -> None:
        if self.open.pop(request.number, None) is not None:  # else the level was closed before
            self.ended += 1
            self.tally.add(failed=told["how"] != "answered")
            self._tell_begin(request)
            self._say(end=request.number, at_s=(at_s or self.clock()) - self.started_s, **told)

    def _tell_begin(self, request: Request) -> None:
        if not request.is_told:
            request.is_told = True
            told = {"asked": request.asked, "is_exact": request.is_exact, "prompt_tokens": request.tokens}
            names = () if request.due_s is None else ("due_s", "late_s", "is_held")
            sent = {name: getattr(request, name) for name in names}
            self._say(begin=request.number, at_s=request.began_s - self.started_s, **told, **sent)

    def _say(self, **told: Any) -> None:
        self.write(json.dumps(told) + "\n")


def opening(planned: int, drain_s: float, rate: float | None = None) -> str:
    """The first line of a ledger. `rate`: requests per second, of an open loop."""
    return json.dumps({"planned": planned, "drain_s": drain_s, "rate": rate}) + "\n"


def closing(parts: Sequence[Mapping[str, Any]], users: int) -> str:
    """The last line of a ledger, of what every worker said at its end: latencies and account are of them all."""
    hows = {part["how"] for part in parts}
    lags = Lags.of(*(part["lags"] for part in parts))
    duration_s = max(part["duration_s"] for part in parts)
    client = {
        "workers": len(parts),
        "users": users,
        "cpu_share": max(part["cpu_share"] for part in parts),
        "lag_p99_s": lags.quantile(0.99),
        "lag_max_s": lags.quantile(1.0),
        "unsure_p99_s": Lags.of(*(part["unsure"] for part in parts)).quantile(0.99),
        "keeps_connections": all(part["keeps"] for part in parts),
        "resent": sum(part["resent"] for part in parts),
        "idle_share": sum(part["waited_s"] for part in parts) / max(users * duration_s, 1e-9),
    }
    told = {
        "closed": next(how for how in ("hopeless", "cut", "whole") if how in hows),
        "begun": sum(part["begun"] for part in parts),
        "duration_s": duration_s,
        "late_prompts": sum(part["late_prompts"] for part in parts),  # made while the level ran
        "client": client,
    }
    return json.dumps(told) + "\n"
