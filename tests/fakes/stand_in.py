"""The stand-in engines as processes of their own, started as the pipeline starts the real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from parts.llama import free_port
from pipeline.machine import process
from support.places import SITE

START_S = 60.0
MODULES = {"sglang": "sglang.launch_server", "vllm": "vllm.entrypoints.cli.main"}


@dataclass(frozen=True)
class Engine:
    """A stand-in that runs."""

    url: str
    program: subprocess.Popen[bytes]
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=10)

    def post(self, path: str, body: Any = None) -> requests.Response:
        return requests.post(f"{self.url}{path}", json=body, timeout=10)

    def chat(self, prompt: str = "Shall I compare thee", *, max_tokens: int = 8, **more: Any) -> requests.Response:
        """One chat completion of exactly `max_tokens` tokens."""
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, "ignore_eos": True}
        return self.post("/v1/chat/completions", {**body, **more})

    def is_ready(self) -> bool:
        try:
            return self.get("/health").ok
        except requests.ConnectionError:
            return False

    @contextmanager
    def busy(self, requests_at_once: int = 1) -> Iterator[None]:
        """While it answers long requests."""
        threads = [threading.Thread(target=self._long) for _ in range(requests_at_once)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)  # on a busy machine too, they have come
        yield
        for thread in threads:
            thread.join()

    def _long(self) -> None:
        self.chat(max_tokens=1000)


def argv(engine: str, model: Path | str, port: int, *flags: str) -> list[str]:
    """The command line as this project's runtimes write it."""
    model_part = ["--model-path", str(model)] if engine == "sglang" else ["serve", str(model)]
    return [sys.executable, "-m", MODULES[engine], *model_part, "--host", "127.0.0.1", "--port", str(port), *flags]


def environment(**more: str) -> dict[str, str]:
    """This process's, with the stand-ins on the path and nothing of an outer stand-in's."""
    kept = {name: item for name, item in os.environ.items() if not name.startswith(("STANDIN_", "VLLM_"))}
    return {**kept, "PYTHONPATH": str(SITE), **more}


def launch(engine: str, *flags: str, model: Path | str = "some/model", **env: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    line = argv(engine, model, free_port(), *flags)
    done = environment(**env)
    return subprocess.run(line, env=done, capture_output=True, text=True, timeout=START_S, check=False)


@contextmanager
def serving(
    engine: str, folder: Path, *flags: str, model: Path | str = "some/model", is_awaited: bool = True, **env: str
) -> Iterator[Engine]:
    """Serve until the end of the scope; ready at its beginning unless it is not awaited."""
    port, log = free_port(), folder / f"{engine}.log"
    with log.open("wb") as out:
        line = argv(engine, model, port, *flags)
        program = subprocess.Popen(line, env=environment(**env), stdout=out, stderr=out)
    running = Engine(f"http://127.0.0.1:{port}", program, log)
    try:
        if is_awaited:
            ended = process.wait_until(lambda: program.poll() is not None or running.is_ready(), timeout_s=START_S)
            assert ended, "not ready in time"
            assert program.poll() is None, running.log
        yield running
    finally:
        program.kill()
        program.wait()


def events(answer: requests.Response) -> list[Any]:
    """What a stream said, [DONE] left out."""
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]
