"""Watches a level from inside of genai-bench: what becomes of each request, and when the level is over.

Runs in the forked child of driver.py, in place of genai-bench's own sender and clock. genai-bench makes the prompts,
the payloads and the users; this module sends, reads, and writes one line per event to `requests.jsonl`, so that what
was begun is known even if this process is killed. `ledger.py` reads it. genai-bench's parser is replaced because a
request vanishes from every count where it raises.
"""

import errno
import importlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from pipeline.bench.stream import Answer, Refused, Unreadable, clean, refused

POLL_S = 0.02  # genai-bench looks once a second whether enough requests are done
LAG_TICK_S = 0.01
HOPELESS = 8  # failures, and none but failures, after which a level need not go on; more where there are more users
PATIENCE_S = 1.0  # that a request may be older than those that failed, and still not speak for the server
LONGEST_ERROR = 65536
OURS = {  # what our own process or machine has run out of
    errno.EMFILE: ("too_many_open_files", "too many open files in the load generator: raise the limit (ulimit -n)"),
    errno.ENFILE: ("too_many_open_files", "too many open files on this machine (fs.file-max)"),
    errno.EADDRNOTAVAIL: ("no_free_port", "no free port on this machine (net.ipv4.ip_local_port_range)"),
    errno.ENOBUFS: ("no_buffers", "no buffer space on this machine"),
    errno.ENOMEM: ("no_memory", "no memory on this machine"),
}
THEIRS = {
    errno.ECONNREFUSED: ("connection_refused", "connection refused"),
    errno.ECONNRESET: ("connection_reset", "the connection was reset"),
    errno.EPIPE: ("connection_reset", "the connection was reset"),
    errno.ETIMEDOUT: ("connection_timed_out", "the connection timed out"),
}


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
        if answer.output_tokens is None or 2 * shape["pieces"] < answer.output_tokens:
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
                continue
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


def cause_of(error: BaseException) -> tuple[str, str, str]:
    """(how, cause, words) of what the HTTP library raised: by the system's own error below it, where there is one."""
    for each in _chain(error):
        if isinstance(each, socket.gaierror) or type(each).__name__ == "NameResolutionError":
            return "client", "name_resolution", f"the server's name cannot be resolved: {clean(str(each))}"
        number = getattr(each, "errno", None)
        if number in OURS:
            return ("client", *OURS[number])
        if number in THEIRS:
            return ("failed", *THEIRS[number])
    name = type(error).__name__
    if name in ("ChunkedEncodingError", "ConnectionError", "ContentDecodingError"):
        return "failed", "connection_broken", f"the connection broke: {clean(str(error))}"
    return "unreadable", "unreadable", f"{name}: {clean(str(error))}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it came from; urllib3 keeps some of that in `reason`, requests in its arguments."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            todo += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]


def install(bench: Any, command: Mapping[str, Any]) -> None:
    """Take the place of genai-bench's sender and of its clock, in this process."""
    user = importlib.import_module("genai_bench.user.openai_user").OpenAIUser
    file = os.open(command["ledger"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    key = command.get("api_key") or None

    def write(line: str) -> None:
        os.write(file, (line.replace(key, "***") if key else line).encode())

    watcher = Watcher(command["max_requests"], command["users"], command["drain_s"], write)
    user.send_request = sender(watcher)
    bench.manage_run_time = clock(watcher, command["max_time_s"])


def sender(watcher: Watcher) -> Callable[..., None]:
    """genai-bench's `send_request` (user/openai_user.py), for streamed chat."""
    import gevent

    def send_request(
        user: Any,
        _stream: bool,
        endpoint: str,
        payload: Mapping[str, Any],
        _parse: Any,
        tokens: int | None = None,
    ) -> None:
        while not watcher.admits:
            gevent.sleep(3600)  # until genai-bench ends its users
        request = watcher.begin(payload)
        try:
            ask(f"{user.host}{endpoint}", payload, user.headers, request)
            request.answer.end()
        except Refused as error:
            watcher.failure(request, "failed", error.cause, str(error))
        except Unreadable as error:
            watcher.failure(request, "unreadable", "unreadable", str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the request must not vanish
            watcher.failure(request, *cause_of(error))
        else:
            watcher.answered(request)
            with suppress(Exception):  # genai-bench's own file is for its own tools; ours is written
                user.collect_metrics(told(request, tokens), endpoint)
            return
        with suppress(Exception):
            user.collect_metrics(_failed(), endpoint)

    return send_request


def ask(url: str, payload: Mapping[str, Any], headers: Mapping[str, str], request: Request) -> None:
    """Send it, and read the answer.

    Raises:
        Refused, Unreadable: the answer is none.
        Exception: what the HTTP library raises.
    """
    import requests

    with requests.post(url, json=payload, stream=True, headers=headers) as response:  # noqa: S113 - the level has an end
        if response.status_code != 200:
            raise refused(response.status_code, response.raw.read(LONGEST_ERROR, decode_content=True) or b"")
        for piece in response.iter_content(chunk_size=None):
            request.heard_s = time.monotonic()  # of all lines of one read: the server sent them together
            request.answer.feed(piece, request.heard_s)
            if request.answer.is_done:
                return


def told(request: Request, tokens: int | None) -> Any:
    """The answer in genai-bench's words."""
    from genai_bench.protocol import UserChatResponse

    answer = request.answer
    return UserChatResponse(
        status_code=200,
        generated_text=answer.text,
        tokens_received=answer.output_tokens or len(answer.times),
        time_at_first_token=answer.times[0],
        num_prefill_tokens=answer.input_tokens if answer.input_tokens is not None else tokens,
        start_time=request.began_s,
        end_time=answer.last_s,
    )


def _failed() -> Any:
    from genai_bench.protocol import UserResponse

    return UserResponse(status_code=500, error_message="see requests.jsonl")


def clock(watcher: Watcher, max_time_s: float) -> Callable[..., int]:
    """genai-bench's `manage_run_time` (cli/utils.py): ends at the second given, and lets what is open finish."""
    import gevent

    def manage(max_time_per_run: int, max_requests_per_run: int, environment: Any) -> int:
        del max_time_per_run, max_requests_per_run  # whole minutes; the plan's number is the watcher's
        watcher.start()
        lag = gevent.spawn(_measure_lag, watcher)
        end = watcher.started_s + max_time_s
        while not watcher.is_over and watcher.clock() < end:
            gevent.sleep(POLL_S)
        watcher.is_closing, end = True, watcher.clock() + watcher.drain_s
        while watcher.open and not watcher.is_hopeless and watcher.clock() < end:
            gevent.sleep(POLL_S)
        lag.kill()
        watcher.close(lambda text: int(environment.sampler.get_token_length(text, add_special_tokens=False)))
        return max(1, int(watcher.clock() - watcher.started_s))

    return manage


def _measure_lag(watcher: Watcher) -> None:
    import gevent

    while True:
        asleep = watcher.clock()
        gevent.sleep(LAG_TICK_S)
        now = watcher.clock()
        watcher.lags.append((now, max(0.0, now - asleep - LAG_TICK_S)))
