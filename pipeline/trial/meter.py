"""How far a level is while it runs: requests done of planned, and the throughput of the moment."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WINDOW_S = 10.0  # that "now" means, once so many requests have ended in it that one more does not matter
ENOUGH = 5
TICK_S = 1.0


class Meter:
    """Reads the ledger (pipeline/bench/watcher.py) while the load generator writes it; nothing where there is none."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.clock = clock
        self.asked_at = clock()
        self.place = 0  # in the file
        self.planned = 0
        self.at_s = 0.0  # of the last event, since the level began
        self.failed = 0
        self.ends: list[tuple[float, int]] = []  # when each request ended, and its output tokens

    def said(self) -> str | None:
        """`12 of 32 requests, 85 tokens/s`; None if that was asked for a moment ago, or nothing is known."""
        if self.clock() - self.asked_at < TICK_S:
            return None
        self.asked_at = self.clock()
        if not self._read() or not self.planned:
            return None
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{len(self.ends)} of {self.planned} requests{failed}, {self._tokens_per_s():.4g} output tokens/s"

    def _tokens_per_s(self) -> float:
        latest = [tokens for at_s, tokens in self.ends if at_s > self.at_s - WINDOW_S]
        if self.at_s > WINDOW_S and len(latest) >= ENOUGH:
            return sum(latest) / WINDOW_S
        return sum(tokens for _, tokens in self.ends) / self.at_s if self.at_s else 0.0

    def _read(self) -> bool:
        """Take in what has been written since; whether there was anything."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.place)
                whole = file.read().rpartition(b"\n")[0]
        except OSError:
            return False
        for line in whole.splitlines():
            self._take(json.loads(line))
        self.place += len(whole) + bool(whole)
        return bool(whole)

    def _take(self, event: dict[str, Any]) -> None:
        self.planned = event.get("planned", self.planned)
        self.at_s = max(self.at_s, event.get("at_s", 0.0))
        if "end" in event and "at_s" in event:
            is_good = event["how"] == "answered"
            self.failed += not is_good
            tokens = event.get("output_tokens")
            self.ends.append((event["at_s"], int(event["pieces"] if tokens is None else tokens) if is_good else 0))
