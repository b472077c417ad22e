"""Pulling an image: a child process asks the daemon, and its lines are added up here.

A child (`python -m pipeline.backends.pull`), because a question to the daemon cannot be broken off from another thread
before the first byte of its answer. The daemon stops pulling when the child's connection closes.
"""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker.errors
import urllib3

from pipeline.backends import Tell, daemon, pull_errors
from pipeline.machine.companion import Companion, die_with_parent

TELL_S = 0.5
PACE_S = 10.0  # the download's speed is that of so many last seconds
MIB, GIB = 2**20, 2**30


@dataclass
class Layer:
    """One layer, in bytes as they are transferred."""

    got: int = 0
    size: int | None = None  # not told before its download begins
    is_done: bool = False

    @property
    def is_fetched(self) -> bool:
        """Whether nothing of it has to come any more."""
        return self.is_done or (self.size is not None and self.got >= self.size)


@dataclass
class Layers:
    """What the lines of a pull add up to.

    Source: POST /images/create of Docker's API, lines as dockerd 20.10 writes them (moby pkg/jsonmessage).
    """

    known: dict[str, Layer] = field(default_factory=dict)
    seen: deque[tuple[float, int]] = field(default_factory=deque)  # (when, bytes) of the last PACE_S

    def add(self, line: Mapping[str, Any]) -> None:
        """Take one line in; those that are not about a layer change nothing."""
        status, name = str(line.get("status", "")), str(line.get("id", ""))
        if status in {"Pulling fs layer", "Waiting"} or status.startswith("Retrying in"):
            self.known[name] = Layer()
        elif status == "Downloading":
            self._download(name, line.get("progressDetail") or {})
        elif status in {"Verifying Checksum", "Download complete", "Extracting"}:
            self._complete(name)
        elif status in {"Pull complete", "Already exists"}:
            self._complete(name).is_done = True

    def words(self, now: float) -> str:
        """`3.1 of 9.8 GiB, 12 of 21 layers, 85 MiB/s`; empty before anything is known. `now` in seconds."""
        layers = self.known.values()
        if not layers:
            return ""
        count = f"{sum(layer.is_done for layer in layers)} of {len(layers)} layers"
        if all(layer.is_fetched for layer in layers):
            return f"{self._amount()}, {count}, unpacking"
        return ", ".join(filter(None, [self._amount(), count, self._pace(now)]))

    def _download(self, name: str, detail: Mapping[str, int]) -> None:
        layer = self.known.setdefault(name, Layer())
        layer.got, total = detail.get("current", 0), detail.get("total", 0)
        layer.size = total if total > 0 else None  # -1: the registry does not tell it

    def _complete(self, name: str) -> Layer:
        layer = self.known.setdefault(name, Layer())
        layer.size = layer.got = layer.size or layer.got
        return layer

    def _amount(self) -> str:
        layers = self.known.values()
        got, size = sum(layer.got for layer in layers), sum(layer.size or layer.got for layer in layers)
        number, unit, digits = (GIB, "GiB", 1) if size >= GIB else (MIB, "MiB", 0)
        more = "at least " if any(layer.size is None for layer in layers) else ""
        return f"{got / number:.{digits}f} of {more}{size / number:.{digits}f} {unit}"

    def _pace(self, now: float) -> str:
        self.seen.append((now, sum(layer.got for layer in self.known.values())))
        while self.seen[0][0] < now - PACE_S:
            self.seen.popleft()
        (begun, before), (_, got) = self.seen[0], self.seen[-1]
        return f"{max(0, got - before) / MIB / (now - begun):.0f} MiB/s" if now > begun else ""


def pull(endpoint: str | None, image: str, *, log: Path, tell: Tell) -> None:
    """Pull `image`, telling how far it is; what `tell` raises ends the pull. The child's own troubles go to `log`.

    Raises:
        PreflightFailed: it cannot be pulled: no such image, no way to the registry, no space, no daemon any more.
    """
    child = Companion("pipeline.backends.pull", log=log, env=os.environ)
    try:
        child.send({"endpoint": endpoint, "image": image})
        _follow(child, image, tell)
    finally:
        child.close()


def _follow(child: Companion, image: str, tell: Tell) -> None:
    layers, told = Layers(), float("-inf")
    while True:
        now = time.monotonic()
        if now - told >= TELL_S:
            told = now
            tell(": ".join(filter(None, [f"pulling {image}", layers.words(now)])))
        was_alive = child.is_alive
        line = child.answer(timeout_s=TELL_S)
        if line is None and not was_alive:
            raise daemon.silent(f"the pull of {image} ended without an error message; see {child.log}")
        if line and _is_last(line, image):
            return
        layers.add(line or {})


def _is_last(line: Mapping[str, Any], image: str) -> bool:
    if "error" in line:
        raise pull_errors.failure(image, str(line["error"]))
    if "lost" in line:
        raise daemon.silent(f"the pull of {image} was interrupted: {line['lost']}")
    return "done" in line


def main() -> None:
    """The child: `{"endpoint", "image"}` on stdin; on stdout the daemon's lines, then `done`, `error` or `lost`."""
    die_with_parent()
    asked = json.loads(sys.stdin.readline())
    with suppress(BrokenPipeError):  # nobody wants to know any more
        for line in _lines(asked["endpoint"], asked["image"]):
            os.write(sys.stdout.fileno(), json.dumps(line).encode() + b"\n")


def _lines(endpoint: str | None, image: str) -> Iterator[dict[str, Any]]:
    try:
        with closing(daemon.connect(endpoint)) as client:
            yield from client.api.pull(image, stream=True, decode=True)
        yield {"done": True}
    except docker.errors.APIError as error:
        yield {"error": str(error.explanation or error)}
    except (*daemon.TROUBLE, docker.errors.StreamParseError, urllib3.exceptions.HTTPError) as error:
        yield {"lost": str(error) or type(error).__name__}


if __name__ == "__main__":
    main()
