"""The prefix cache is warmed between its emptying and the level's clock, where the traffic asks for that."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import Call, FakeBackend, FakeProgress, FakeRunner, make_deployment
from pipeline.config import planning
from pipeline.core.plan import Assets
from pipeline.core.record import Level
from pipeline.trial.levels import Ladder
from support.records import CONFIG, make_config

FILES = Assets(model_path=Path("/m.gguf"), tokenizer_dir=Path("/tok"))
SHARED: dict[str, Any] = {"prefix_tokens": 32, "prefixes": 2, "cache": "warm"}


def climbed(folder: Path, call: Call | None = None, **traffic: Any) -> tuple[list[Level], FakeRunner]:
    config = make_config(traffic={**CONFIG["traffic"], "concurrencies": [1, 4], **traffic})
    backend = FakeBackend()
    runner = FakeRunner(backend, {"4": call} if call else {})
    plan = planning.make(config, FILES, sweep_id="s", number=0, run_dir=folder)
    ladder = Ladder(config, plan, make_deployment(folder, "http://127.0.0.1:9"), backend, runner, FakeProgress())
    done: list[Level] = []
    ladder.climb(done)
    return done, runner


def test_each_level_is_warmed_before_it_is_measured(tmp_path: Path) -> None:
    levels, runner = climbed(tmp_path, **SHARED)
    assert [(job.users, job.warms) for job in runner.jobs] == [(1, True), (1, False), (4, True), (4, False)]
    assert [level.cache_reset for level in levels] == [
        "none, then warmed with 2 requests in 1.2 s",
        "none, then warmed with 4 requests in 1.2 s",
    ]
    assert {job.timeout_s for job in runner.jobs if job.warms} == {10.0}  # timeouts.warmup_s


@pytest.mark.parametrize("traffic", [{}, {**SHARED, "cache": "cold"}], ids=["drawn", "cold"])
def test_nothing_is_sent_where_nothing_is_to_be_warm(tmp_path: Path, traffic: dict[str, Any]) -> None:
    levels, runner = climbed(tmp_path, **traffic)
    assert [job.warms for job in runner.jobs] == [False, False]
    assert {level.cache_reset for level in levels} == {"none"}


def test_a_level_that_cannot_be_warmed_fails_alone(tmp_path: Path) -> None:
    refused = Call(writes="", error="RuntimeError: the prefix cache could not be warmed: HTTP 503: no room")
    levels, _ = climbed(tmp_path, replace(refused), **SHARED)
    assert [level.status for level in levels] == ["ok", "failed"]
    why = levels[1].failure
    assert why is not None
    assert "could not be warmed: HTTP 503" in why.message
    assert "traffic.cache=cold" in why.hint
