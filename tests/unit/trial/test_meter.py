"""How far a level is, read while the load generator writes its ledger."""

import json
from pathlib import Path
from typing import Any

from pipeline.bench.watcher import Watcher, opening
from pipeline.bench.wire import Prepared
from pipeline.trial.meter import TICK_S, Meter


class Level:
    """A ledger that is written, and a meter with a clock of ours."""

    def __init__(self, path: Path) -> None:
        self.now = 100.0
        self.path = path
        self.meter = Meter(path, lambda: self.now)

    def write(self, *events: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)

    def later(self, seconds: float = TICK_S) -> str | None:
        self.now += seconds
        return self.meter.said()


def end(number: int, at_s: float, how: str = "answered", **more: Any) -> dict[str, Any]:
    return {"end": number, "at_s": at_s, "how": how, "output_tokens": 100, "pieces": 90, **more}


def test_requests_are_counted_of_those_planned_and_tokens_by_the_second(tmp_path: Path) -> None:
    level = Level(tmp_path / "requests.jsonl")
    assert level.later() is None  # there is no ledger yet
    level.write({"planned": 32, "drain_s": 10}, {"begin": 0, "at_s": 0.0}, {"begin": 1, "at_s": 0.0})
    assert level.later() == "0 of 32 requests, 0 output tokens/s"
    level.write(end(0, 4.0), end(1, 5.0, output_tokens=None))
    assert level.later() == "2 of 32 requests, 38 output tokens/s"  # 100 + 90 pieces in 5 s
    assert level.later() is None  # nothing new
    level.write(end(2, 6.0, how="failed"))
    assert level.later() == "3 of 32 requests, 1 failed, 31.67 output tokens/s"


def test_throughput_is_that_of_the_last_seconds_where_there_are_enough_of_them(tmp_path: Path) -> None:
    level = Level(tmp_path / "requests.jsonl")
    level.write({"planned": 64}, *(end(n, n / 10) for n in range(20)), *(end(20 + n, 101.0 + n) for n in range(6)))
    assert level.later() == "26 of 64 requests, 60 output tokens/s"


def test_it_is_read_once_a_second_and_whole_lines_only(tmp_path: Path) -> None:
    level = Level(tmp_path / "requests.jsonl")
    level.write({"planned": 2})
    assert level.later(TICK_S / 2) is None
    with level.path.open("a") as file:
        file.write(json.dumps(end(0, 1.0))[:20])
    assert level.later() == "0 of 2 requests, 0 output tokens/s"
    with level.path.open("a") as file:
        file.write(json.dumps(end(0, 1.0))[20:] + "\n")
    assert level.later() == "1 of 2 requests, 100 output tokens/s"


def test_it_reads_what_the_watcher_writes(tmp_path: Path) -> None:
    level = Level(tmp_path / "requests.jsonl")
    with level.path.open("a") as file:
        file.write(opening(4, 1.0))
        watcher = Watcher(4, 1, 1.0, file.write)
        watcher.failure(watcher.begin(Prepared(b"", 8)), "failed", "HTTP 503", "busy")
        watcher.begin(Prepared(b"", 8))
        watcher.close(len)
    assert level.later() == "1 of 4 requests, 1 failed, 0 output tokens/s"
