"""Empties an engine's prefix cache between levels, and tells when the engine is idle: one class per `cache_reset`."""

import re
from typing import Protocol

import requests

from pipeline.engines.http import QUICK_S, session

FAILED = "failed: "  # how the words for a cache that was not emptied begin
CLOSED = f"{FAILED}/reset_prefix_cache is there with VLLM_SERVER_DEV_MODE=1 only, which is set on loopback only"


class Way(Protocol):
    """How an engine is asked."""

    def is_idle(self, http: requests.Session, url: str) -> bool:
        """Whether no request is running or waiting. Raises what _TROUBLE names where it cannot tell."""

    def empty(self, http: requests.Session, url: str) -> str:
        """Empty the cache; what was done, in words. Raises what _TROUBLE names."""


_TROUBLE = (requests.RequestException, ValueError, KeyError, TypeError)  # no answer, or one of another shape


class Slots:
    """llama.cpp: every slot's KV cache. Source: llama.cpp tools/server/README.md, POST /slots/{id}?action=erase."""

    def is_idle(self, http: requests.Session, url: str) -> bool:
        """A server that does not even answer has all its HTTP threads at work."""
        try:
            slots = http.get(f"{url}/slots", timeout=QUICK_S).json()
            return not any(slot["is_processing"] for slot in slots)
        except requests.Timeout:
            return False

    def empty(self, http: requests.Session, url: str) -> str:
        """Erase slot by slot."""
        slots = http.get(f"{url}/slots", timeout=QUICK_S).json()
        for slot in slots:
            http.post(f"{url}/slots/{slot['id']}?action=erase", timeout=QUICK_S).raise_for_status()
        return f"erased {len(slots)} slots"


class SglangFlush:
    """SGLang: the radix cache. Source: sglang 0.5.23, srt/entrypoints/http_server.py:1025: 400 while requests run."""

    def is_idle(self, http: requests.Session, url: str) -> bool:
        """A flush that is refused tells of requests that run or wait."""
        code = http.post(f"{url}/flush_cache", timeout=QUICK_S).status_code
        return bool(code != requests.codes.bad_request)

    def empty(self, http: requests.Session, url: str) -> str:
        """Flush once more; between the question and this, nobody but us sends requests."""
        http.post(f"{url}/flush_cache", timeout=QUICK_S).raise_for_status()
        return "flushed by /flush_cache"


class VllmReset:
    """vLLM: the prefix cache; only with VLLM_SERVER_DEV_MODE=1.

    Source: vllm 0.33.0, entrypoints/serve/dev/cache/api_router.py:20 (0.19.1 answers without a body),
    v1/metrics/loggers.py:528.
    """

    _REQUESTS = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)

    def is_idle(self, http: requests.Session, url: str) -> bool:
        """No request runs or waits, by the gauges of /metrics."""
        answer = http.get(f"{url}/metrics", timeout=QUICK_S)
        answer.raise_for_status()
        return not any(float(count) for count in self._REQUESTS.findall(answer.text))

    def empty(self, http: requests.Session, url: str) -> str:
        """Reset; a refusal says so in its body since the answer has one."""
        answer = http.post(f"{url}/reset_prefix_cache", timeout=QUICK_S)
        if answer.status_code == requests.codes.not_found:
            return CLOSED
        answer.raise_for_status()
        if answer.text and not answer.json()["success"]:
            return f"{FAILED}/reset_prefix_cache: blocks are still held"
        return "reset by /reset_prefix_cache"


_WAYS: dict[str, Way] = {"llamacpp_slots": Slots(), "sglang_flush": SglangFlush(), "vllm_reset": VllmReset()}


def is_idle(url: str, how: str) -> bool:
    """Whether the engine has finished or dropped what earlier levels asked; True where it cannot tell."""
    way = _WAYS.get(how)
    try:
        with session() as http:
            return way is None or way.is_idle(http, url)
    except _TROUBLE:
        return True


def empty(url: str, how: str) -> str:
    """Empty the engine's prefix cache; what was done, in words (kept with the level)."""
    way = _WAYS.get(how)
    try:
        with session() as http:
            return way.empty(http, url) if way else "none"
    except _TROUBLE as error:
        return f"{FAILED}{type(error).__name__}"
