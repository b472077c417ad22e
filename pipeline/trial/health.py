"""Waits until a server is ready and warm, or reports why it never will be."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import requests

from pipeline.backends import Backend, Deployment
from pipeline.core.errors import FailureKind, NotReady, ServerDied, WarmupFailed
from pipeline.core.files import RunDir
from pipeline.core.plan import Plan
from pipeline.core.redact import Secrets
from pipeline.engines import diagnose, http, log_lines, prefix_cache
from pipeline.machine import oom, signals

TAIL_LINES = 15
ALIVE_S = 0.25  # how often the server is looked after while it is warmed up
FAIR_S = 1.0  # less time for an answer says nothing of who does not give one
LATE = "Raise timeouts.warmup_s if the server needs more time: a router before its engines, a model that loads lazily."
TAIL_WIDTH = 400  # SGLang prints all its arguments in one line of 20,000 characters


def wait_ready(backend: Backend, deployment: Deployment, plan: Plan) -> None:
    """Return when the health path answers 200 and the listener is ours.

    Raises:
        ServerDied: the server ended; the message holds the end of its log.
        NotReady: the deadline passed, or somebody else answers on the port.
    """
    log = RunDir(plan.run_dir).server_log
    end = time.monotonic() + plan.health.timeout_s
    seen = "no answer yet"
    while time.monotonic() < end:
        check_alive(backend, deployment, log)
        signals.check()  # one that a library has swallowed
        answer = http.health(deployment.url, plan.health.path)
        if answer is None:
            _check_ours(backend, deployment, log)
            return
        seen = answer
        _check_hope(deployment, log)
        time.sleep(plan.health.interval_s)
    found = diagnose.not_ready(seen, _text(log))
    seen = "; ".join(filter(None, [seen, backend.condition(deployment)]))
    reason = f" {found.reason}" if found.reason else ""
    raise NotReady(
        f"{deployment.url}{plan.health.path} was not ready within {plan.health.timeout_s:g} s; "
        f"last answer: {seen}.{reason}\n{_tail(log)}",
        kind=found.kind,
        hint=found.hint,
    )


def check_alive(backend: Backend, deployment: Deployment, log: Path) -> None:
    """Return while the server runs.

    Raises:
        ServerDied: with its exit code, its own reason first, the end of its log and a diagnosis.
    """
    how = backend.death(deployment)
    if how is None:
        return
    found = diagnose.server_death(how, _text(log), oom_kills=oom.since(deployment.lease.label))
    first = f"The server ended ({how}): {found.reason}" if found.reason else f"The server ended: {how}."
    raise ServerDied(f"{first}\n{_tail(log)}", kind=found.kind, hint=found.hint)


def _check_hope(deployment: Deployment, log: Path) -> None:
    """Raise NotReady where the server runs and has said that it will never answer."""
    found = diagnose.never_ready(_text(log))
    if found:
        raise NotReady(
            f"The server at {deployment.url} will not become ready: {found.reason}\n{_tail(log)}",
            kind=found.kind,
            hint=found.hint,
        )


def _check_ours(backend: Backend, deployment: Deployment, log: Path) -> None:
    if backend.owns_listener(deployment):
        return
    check_alive(backend, deployment, log)
    raise NotReady(
        f"Another process answers on port {deployment.port}; our server does not listen there.",
        kind=FailureKind.PORT_TAKEN,
        hint="Run the trial again: it looks for a free port each time.",
    )


def warm_up(
    deployment: Deployment, plan: Plan, *, concurrency: int, timeout_s: float, alive: Callable[[], None] = signals.check
) -> None:
    """Send the plan's warm-up requests, `concurrency` at a time; the answers are not measured.

    A request is sent again while the server refuses connections or says that it cannot answer yet (http.PASSING): a
    router may be healthy before its engines are, and some load the model for the first request. `alive` is called
    meanwhile.

    Raises:
        WarmupFailed: one was not answered within `timeout_s`, or with an error that does not pass.
        Exception: what `alive` raises.
    """
    if not plan.warmup_requests:
        return
    warming = _Warming(deployment.url, plan, time.monotonic() + timeout_s)
    pool = ThreadPoolExecutor(max_workers=max(1, min(concurrency, plan.warmup_requests)))
    sent = [pool.submit(warming.one) for _ in range(plan.warmup_requests)]
    try:
        while wait(sent, timeout=ALIVE_S, return_when=FIRST_EXCEPTION).not_done:
            if any(one.done() and one.exception() for one in sent):
                break
            alive()
        for one in sent:
            if one.done():
                one.result()
    except requests.RequestException as error:
        raise _not_warm(error, warming, timeout_s) from error
    finally:
        warming.over.set()
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass
class _Warming:
    """The warm-up requests to one server."""

    url: str
    plan: Plan
    end: float
    over: threading.Event = field(default_factory=threading.Event)
    asked_again: int = 0

    def one(self) -> None:
        """Ask until there is an answer. Raises the last requests.RequestException when it is no use, or too late."""
        told: requests.RequestException | None = None
        while True:
            left_s = self.end - time.monotonic()
            try:
                http.complete(self.url, self.plan.served_name, timeout_s=max(left_s, self.plan.health.interval_s))
            except requests.RequestException as error:
                if told is not None and left_s < FAIR_S and isinstance(error, requests.Timeout):
                    raise told from error
                is_late = time.monotonic() + self.plan.health.interval_s >= self.end
                if is_late or not http.is_passing(error) or self.over.wait(self.plan.health.interval_s):
                    raise
                told = error
                self.asked_again += 1
            else:
                return


def _not_warm(error: requests.RequestException, warming: _Warming, timeout_s: float) -> WarmupFailed:
    """With the last answer; and whether it may be a matter of time."""
    found = diagnose.in_log(_text(RunDir(warming.plan.run_dir).server_log))
    is_late = http.is_passing(error) or isinstance(error, requests.Timeout)
    within = f" within {timeout_s:g} s (timeouts.warmup_s)" if is_late else ""
    again = f"; it was asked again {warming.asked_again} times; last answer" if warming.asked_again else ""
    reason = f". {found.reason}" if found else ""
    late_kind = FailureKind.STEP_TIMED_OUT if isinstance(error, requests.Timeout) else None
    return WarmupFailed(
        f"A warm-up request to {warming.url}/v1/chat/completions was not answered{within}{again}: "
        f"{http.words(error)}{reason}",
        kind=found.kind if found else late_kind,
        hint=found.hint if found else (LATE if is_late else None),
    )


def wait_idle(deployment: Deployment, plan: Plan, *, timeout_s: float, alive: Callable[[], None]) -> str:
    """Let aborted requests of the level before run out, then empty the prefix cache; what was done, in words."""
    end = time.monotonic() + timeout_s
    while not (is_idle := prefix_cache.is_idle(deployment.url, plan.cache_reset)) and time.monotonic() < end:
        alive()
        time.sleep(plan.health.interval_s)
    done = prefix_cache.empty(deployment.url, plan.cache_reset)
    return done if is_idle else f"{done}; earlier requests were still running after {timeout_s:g} s"


def _text(log: Path) -> str:
    """The end of a log, which may be long, without secrets, which may be in it."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - log_lines.LOG_END))
        return str(Secrets(os.environ).hide(file.read().decode(errors="replace")))


def _tail(log: Path) -> str:
    lines = _text(log).splitlines()[-TAIL_LINES:]
    if not lines:
        return f"{log} is empty."
    shown = (line if len(line) <= TAIL_WIDTH else f"{line[:TAIL_WIDTH]} [...]" for line in lines)
    return "\n".join([f"Last lines of {log}:", *(f"  | {line}" for line in shown)])
