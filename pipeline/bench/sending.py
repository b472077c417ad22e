"""Sends a level's requests and ends it in time, in place of genai-bench's own sender and clock.

Runs in the forked child of driver.py. genai-bench makes the prompts, the payloads and the users. Its parser is replaced
because a request vanishes from every count where it raises, its clock because it cuts off what is still open.
"""

import errno
import importlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from pipeline.bench.stream import Refused, Unreadable, clean, refused
from pipeline.bench.watcher import Request, Watcher

POLL_S = 0.02  # genai-bench looks once a second whether enough requests are done
LAG_TICK_S = 0.01
DONE_S = 0.1  # that a whole answer waits for [DONE], or for an error after all
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
    if name in ("ChunkedEncodingError", "ConnectionError", "ContentDecodingError", "ProtocolError", "DecodeError"):
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
            watcher.answered(request)
        except Refused as error:
            watcher.failure(request, "failed", error.cause, str(error))
        except Unreadable as error:
            watcher.failure(request, "unreadable", "unreadable", str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the request must not vanish
            watcher.failure(request, *cause_of(error))
        else:
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
        _read(response, request)


def _read(response: Any, request: Request) -> None:
    """Read to [DONE], or to the end; where nothing but [DONE] is missing, do not wait long for it."""
    import gevent

    patience, answer = gevent.Timeout(None), request.answer
    try:
        for piece in _pieces(response):
            request.heard_s = time.monotonic()  # of all lines of one read: the server sent them together
            answer.feed(piece, request.heard_s)
            if answer.is_done:
                return
            if answer.is_whole and not patience.pending:
                patience = gevent.Timeout.start_new(DONE_S)
    except gevent.Timeout:
        return
    finally:
        patience.cancel()


def _pieces(response: Any) -> Iterator[bytes]:
    """What each read brings. Without chunks, requests would wait for the end of the answer."""
    if response.raw.chunked:
        yield from response.iter_content(chunk_size=None)
        return
    while piece := response.raw.read1(decode_content=True):
        yield piece


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
