"""An engine's /metrics, read around and during a level: what a level has of it, and that it never costs a level."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import Answer, FakeEngine
from pipeline.core.record import Level
from pipeline.core.schema_engine import Tells
from pipeline.core.values import parse
from pipeline.machine import process
from pipeline.trial.engine_watch import NAME, EngineWatch
from support.records import make_levels, make_metrics

TELLS = parse(
    Tells,
    {
        "metrics_path": "/metrics",
        "ttft": ["ttft"],
        "metrics": {"running": ["run"], "requests": ["done"], "output_tokens": ["out"]},
    },
)


def text(done: int, *, running: int = 0, tokens: int = 16) -> Answer:
    """An engine that has answered so many requests, with so many tokens and 0.1 s to the first one each."""
    return 200, f"run {running}\ndone {done}\nout {done * tokens}\nttft_sum {done / 10}\nttft_count {done}\n"


def level(**changes: Any) -> Level:
    measured = make_metrics(fates={"good": 8}, num_begun=8, **changes)
    return replace(make_levels()[0], metrics=measured, warnings=())


def watched(url: str, folder: Path, *, samples: int = 0, engine: EngineWatch | None = None) -> Level:
    """A level that lasts until so many samples are there."""
    engine = engine or EngineWatch(url, TELLS, None)
    with engine.level() as watch:
        assert process.wait_until(lambda: len(watch.sampler.samples) >= samples, timeout_s=180, interval_s=0.01)
    return watch.told(level(), folder, folder.parent)


def test_a_level_has_what_the_engine_said_of_it_and_the_samples_beside(tmp_path: Path) -> None:
    folder = tmp_path / "level"
    folder.mkdir()
    with FakeEngine(**{"GET /metrics": [text(4), text(5, running=3), text(12)]}) as server:
        found = watched(server.url, folder, samples=1)
    told = found.engine_metrics
    assert told is not None
    assert (told.samples, told.running_max, told.requests, told.output_tokens, told.missing) == (1, 3, 8, 128, None)
    assert found.engine is not None
    assert found.engine.requests == 8
    assert found.engine.ttft_mean_s == pytest.approx(0.1)
    assert told.series_file == f"level/{NAME}"
    table = json.loads((tmp_path / told.series_file).read_text())
    assert table["columns"] == ["at_s", "running"]
    assert table["rows"][0][1] == 3


def test_other_counts_than_ours_are_said(tmp_path: Path) -> None:
    with FakeEngine(**{"GET /metrics": [text(4, tokens=16), text(12, tokens=20)]}) as server:
        found = watched(server.url, tmp_path)
    assert "counts differ: output tokens: 176 in the engine, 128 at the load generator" in found.warnings


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((404, "no such path"), "/metrics: HTTP 404"),
        ((200, "<html>"), "/metrics: none of the metrics that are known of this engine"),
        ((200, "run many"), "/metrics: no Prometheus text"),
    ],
    ids=["not-enabled", "a-page", "garbage"],
)
def test_without_an_answer_nothing_is_sampled_and_the_level_says_why(answer: Answer, why: str, tmp_path: Path) -> None:
    with FakeEngine(**{"GET /metrics": answer}) as server:
        found = watched(server.url, tmp_path)
        assert server.asked == ["GET /metrics"]
    told = found.engine_metrics
    assert told is not None
    assert told.missing is not None
    assert told.missing.startswith(why)
    assert (told.samples, told.series_file, found.status) == (0, None, "ok")


def test_an_engine_without_such_a_path_says_nothing_and_nothing_is_missed(tmp_path: Path) -> None:
    found = watched("http://127.0.0.1:9", tmp_path, engine=EngineWatch("http://127.0.0.1:9", Tells(), None))
    assert (found.engine_metrics, found.engine, found.warnings) == (None, None, ())


class Hanging(FakeEngine):
    """One that answers so often, and then takes what it is asked and says nothing until it is freed."""

    def __init__(self, answers: int) -> None:
        super().__init__(**{"GET /metrics": text(4)})
        self.left, self.freed = answers, threading.Event()

    def answer(self, line: str, key: str | None) -> Answer:
        self.left -= 1
        if self.left < 0:
            self.freed.wait()
        return super().answer(line, key)


def test_an_idle_engine_that_hangs_is_asked_once(tmp_path: Path) -> None:
    with Hanging(0) as server:
        engine = EngineWatch(server.url, TELLS, None, idle_s=0.2)
        levels = [watched(server.url, tmp_path, engine=engine) for _ in range(3)]
        assert server.left == -1
        server.freed.set()
    assert {one.engine_metrics.missing for one in levels if one.engine_metrics} == {
        "/metrics: no answer within 0.2 s; not asked again"
    }


def test_a_busy_engine_that_hangs_costs_its_samples_alone(tmp_path: Path) -> None:
    with Hanging(1) as server:
        engine = EngineWatch(server.url, TELLS, None, during_s=0.05)
        with engine.level() as watch:
            assert process.wait_until(lambda: watch.sampler.looks >= 1, timeout_s=180, interval_s=0.01)
        server.left = 10
        found = watch.told(level(), tmp_path, tmp_path.parent)
        server.freed.set()
    told = found.engine_metrics
    assert told is not None
    assert told.missing is not None
    assert told.missing.startswith("/metrics did not answer while the engine worked")
    assert (told.samples, told.requests) == (0, 0)


def test_samples_that_cannot_be_written_cost_their_file_alone(tmp_path: Path) -> None:
    with FakeEngine(**{"GET /metrics": [text(4), text(5, running=3), text(12)]}) as server:
        found = watched(server.url, tmp_path / "missing", samples=1)
    assert found.engine_metrics is not None
    assert (found.engine_metrics.series_file, found.engine_metrics.requests) == (None, 8)
