"""The server that `best/serve.sh` starts, and which of its paths answer without its key. Knows no engine."""

import os
import secrets
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from parts.llama import lasting_ports
from pipeline.machine import process

CLOSED = (401, 403, 404)
ANSWER_S = 30.0  # vLLM's first /server_info takes ten on a busy machine
# What an engine opens only while it is measured, and what generates: none of it may be had without the key
GUARDED = (
    *("GET /v1/models", "POST /v1/chat/completions", "POST /v1/completions", "POST /v1/responses"),
    *("POST /collective_rpc", "POST /reset_prefix_cache", "GET /server_info", "POST /sleep", "POST /update_weights"),
)
# vLLM 0.32.0 answers these without a key in any mode: entrypoints/serve/middleware/authenticate.py:11 guards /v1, /v2,
# /inference and /cohere alone. docs/results-and-report.md tells users to let nothing but /v1 through
KNOWN_OPEN = ("POST /invocations", "POST /tokenize", "POST /detokenize", "POST /generative_scoring")


@dataclass(frozen=True)
class HandedOver:
    """A running server that was started by what is handed over."""

    url: str
    key: str

    def ask(self, what: str, *, key: str | None = None) -> int:
        """The status of `METHOD /path`, with a body that no path accepts."""
        method, _, path = what.partition(" ")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return requests.request(method, f"{self.url}{path}", headers=headers, json={}, timeout=ANSWER_S).status_code

    def open_paths(self, paths: Iterable[str] = GUARDED) -> dict[str, int]:
        """Those that do something without the key, or with a wrong one, with the status; empty is safe."""
        asked = {path: (self.ask(path), self.ask(path, key="sk-wrong")) for path in paths}
        return {path: next(code for code in codes if code not in CLOSED) for path, codes in asked.items()
                if not set(codes) <= set(CLOSED)}  # fmt: skip

    def all_paths(self) -> list[str]:
        """Every `METHOD /path` of its OpenAPI description."""
        told = requests.get(f"{self.url}/openapi.json", timeout=ANSWER_S).json()["paths"]
        return [f"{method.upper()} {path}" for path, methods in told.items() for method in methods]


@contextmanager
def served(
    script: Path, folder: Path, *, timeout_s: float, env: Mapping[str, str] | None = None
) -> Iterator[HandedOver]:
    """The script's server with a key, once it is healthy; gone at the end. `folder`: short, for temporary files."""
    port, key, label = lasting_ports(1)[0], secrets.token_hex(8), f"handed-over-{secrets.token_hex(4)}"
    own = {"PORT": str(port), "SERVETUNE_API_KEY": key, "TMPDIR": str(folder), process.LABEL: label}
    log = folder / "server.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [script], env={**os.environ, "SPT_NOENV": "1", **own, **(env or {})}, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    up = HandedOver(f"http://127.0.0.1:{port}", key)
    try:
        is_up = process.wait_until(lambda: child.poll() is not None or is_healthy(up.url), timeout_s=timeout_s)
        assert is_up, log.read_text()
        assert child.poll() is None, log.read_text()
        yield up
    finally:
        left = process.stop_labelled(label, grace_s=30)
        child.wait()
        assert left == ()


def is_healthy(url: str) -> bool:
    """Whether it answers its health check."""
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except requests.RequestException:
        return False
