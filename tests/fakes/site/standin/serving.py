"""What both engines do with a request: admit it, let it wait for its turn, prefill, decode. Thread-safe."""

import os
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from standin import latency
from standin.errors import ClientGoneError, RejectedError
from standin.faults import Fault
from standin.latency import Knobs
from standin.model import Model

WORD = " day"
PATIENCE_S = 0.02  # how often a request that waits looks after its client
_NATURAL = (7, 25)  # a text that may end ends between these numbers of tokens


@dataclass(frozen=True)
class Ask:
    """A completion that is asked for."""

    prompt: str
    max_tokens: int | None
    min_tokens: int
    ignore_eos: bool
    model: str | None
    is_stream: bool
    wants_usage: bool

    @property
    def length(self) -> int:
        """How many tokens the model makes of it: deterministic, by the prompt."""
        least, most = _NATURAL
        natural = max(self.min_tokens, least + zlib.crc32(self.prompt.encode()) % (most - least))
        if self.max_tokens is None:
            return natural
        return self.max_tokens if self.ignore_eos else min(self.max_tokens, natural)


@dataclass
class Answer:
    """What comes of it; grows while it is made."""

    ask: Ask
    prompt: list[Any]  # its tokens
    length: int
    cached_tokens: int = 0
    made: int = 0

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt)

    @property
    def finish_reason(self) -> str:
        return "length" if self.length == self.ask.max_tokens else "stop"


class PrefixCache:
    """The prompts seen, page by page: a page counts only where all before it were the same."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self._pages: set[int] = set()

    def hit(self, tokens: list[Any]) -> int:
        """How many tokens at the beginning are known; at least one is always computed."""
        known = 0
        for page in self._chain(tokens):
            if page not in self._pages:
                break
            known += self.page_size
        return min(known, max(0, len(tokens) - 1) // self.page_size * self.page_size)

    def add(self, tokens: list[Any]) -> None:
        self._pages.update(self._chain(tokens))

    def clear(self) -> None:
        self._pages.clear()

    def _chain(self, tokens: list[Any]) -> Iterator[int]:
        before = 0
        for at in range(0, len(tokens) - self.page_size + 1, self.page_size):
            before = hash((before, *tokens[at : at + self.page_size]))
            yield before


class Serving:
    """The scheduler: who runs, who waits."""

    def __init__(self, knobs: Knobs, model: Model, fault: Fault, dies: Callable[[str], None]) -> None:
        self.knobs, self.model, self.fault = knobs, model, fault
        self.cache = PrefixCache(knobs.page_size)
        self.running = self.waiting = self.answered = 0
        self.totals = {"requests": 0.0, "prompt": 0.0, "output": 0.0, "cached": 0.0, "queue_s": 0.0, "prefill_s": 0.0}
        self.is_dead = False
        self._dies = dies
        self._speed = float(os.environ.get("STANDIN_SPEED") or 5)
        self._turn = threading.Condition()

    @property
    def is_idle(self) -> bool:
        return not self.running and not self.waiting

    @property
    def hangs(self) -> bool:
        """Whether requests are taken and never answered from now on."""
        after = self.fault.number("hang")
        return after is not None and self.answered >= after

    def empty_cache(self) -> bool:
        """Forget every prompt, unless a request needs one."""
        with self._turn:
            if self.is_idle:
                self.cache.clear()
            return self.is_idle

    def refuses(self, limit: int | None) -> bool:
        """Whether one more request is too many: for the engine's own limit of the queue, or by the fault."""
        at_once = self.fault.number("overload")
        waits = self.waiting if self.running >= self.knobs.max_running else 0
        return (limit is not None and waits + 1 > limit) or (
            at_once is not None and self.running + self.waiting + 1 > at_once
        )

    def begin(self, ask: Ask) -> Answer:
        """The plan of an answer.

        Raises:
            RejectedError: it will not be answered.
        """
        if self.fault.name == "rejects":
            raise RejectedError(400, "the stand-in rejects completions")
        length = max(1, ask.length // 2) if self.fault.name == "wrong_tokens" else ask.length
        return Answer(ask, prompt=self.model.tokens(ask.prompt), length=length)

    def tokens(self, answer: Answer, is_gone: Callable[[], bool]) -> Generator[str]:
        """The answer, token by token, each when it is due.

        Raises:
            ClientGoneError: nobody waits for it any more.
            RejectedError: the engine died.
        """
        came = time.monotonic()
        with self._running(is_gone):
            self._hang(is_gone)
            self._die()
            begun = time.monotonic()
            due = begun + self._prefill(answer)
            times = {"queue_s": begun - came, "prefill_s": due - begun}
            while answer.made < answer.length:
                self._sleep_until(due, is_gone)
                answer.made += 1
                yield WORD
                due += latency.step_s(self.knobs, self.running) / self._speed
            self.answered += 1
            self._count(answer, times)

    def _count(self, answer: Answer, times: dict[str, float]) -> None:
        told = {"requests": 1, "prompt": answer.prompt_tokens, "output": answer.made, "cached": answer.cached_tokens}
        with self._turn:
            for name, number in {**told, **times}.items():
                self.totals[name] += number

    @contextmanager
    def _running(self, is_gone: Callable[[], bool]) -> Iterator[None]:
        with self._turn:
            self.waiting += 1
            try:
                while self.running >= self.knobs.max_running:
                    self._turn.wait(PATIENCE_S)
                    _look(is_gone)
                self.running += 1
            finally:
                self.waiting -= 1
        try:
            yield
        finally:
            with self._turn:
                self.running -= 1
                self._turn.notify()

    def _hang(self, is_gone: Callable[[], bool]) -> None:
        while self.hangs:
            time.sleep(PATIENCE_S)
            _look(is_gone)

    def _die(self) -> None:
        for name in ("oom_under_load", "dies_under_load"):
            after = self.fault.number(name)
            if after is not None and self.answered >= after and not self.is_dead:
                self.is_dead = True
                self._dies(name)
        if self.is_dead:
            raise RejectedError(500, "The server had an error while processing your request.")

    def _prefill(self, answer: Answer) -> float:
        if self.knobs.has_prefix_cache:
            with self._turn:
                answer.cached_tokens = self.cache.hit(answer.prompt)
                self.cache.add(answer.prompt)
        new = answer.prompt_tokens - answer.cached_tokens
        return latency.prefill_s(self.knobs, new, self.running) / self._speed

    def _sleep_until(self, due: float, is_gone: Callable[[], bool]) -> None:
        while (left := due - time.monotonic()) > 0:
            time.sleep(min(left, PATIENCE_S))
            if left > PATIENCE_S:
                _look(is_gone)
            if self.is_dead:
                raise RejectedError(500, "The server had an error while processing your request.")


def _look(is_gone: Callable[[], bool]) -> None:
    if is_gone():
        raise ClientGoneError
