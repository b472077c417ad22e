"""The search for the most users of a trial, on a server that is played."""

from pathlib import Path
from typing import Any

import pytest

from fakes import Call, FakeBackend, FakeProgress, FakeRunner, make_deployment
from pipeline.config import planning
from pipeline.core import capacity as found
from pipeline.core.errors import FailureKind, ServerDied
from pipeline.core.plan import Assets
from pipeline.core.racing import Incumbent
from pipeline.core.record import Level
from pipeline.trial import capacity, postmortem
from pipeline.trial.levels import Ladder
from support.records import CONFIG, make_config

FILES = Assets(model_path=Path("/m.gguf"), tokenizer_dir=Path("/tok"))
SLO = {"name": "x", "ttft_s": 1.0, "attainment": 0.9, "max_error_rate": 0.1}


def ladder(folder: Path, table: dict[str, Call], best: Incumbent | None = None, **traffic: Any) -> Ladder:
    wanted = {**CONFIG["traffic"], "levels": "capacity", "concurrencies": [1], "max_concurrency": 64, **traffic}
    config = make_config(traffic=wanted, slo=SLO, objective=["auto"])
    backend = FakeBackend()
    return Ladder(
        config=config,
        plan=planning.make(config, FILES, sweep_id="s", number=0, run_dir=folder),
        deployment=make_deployment(folder, "http://127.0.0.1:9"),  # discard: nothing listens there
        backend=backend,
        runner=FakeRunner(backend, table),
        progress=FakeProgress(),
        best=best,
        death_s=0,
    )


def slow_from(first: int, scenario: str = "D64_16") -> dict[str, Call]:
    """Each call answers all that is planned."""
    return {
        f"{scenario}/{users}": Call(answered=max(4, 2 * users), ttft_s=9.0 if users >= first else 0.2)
        for users in range(1, 65)
    }


def tried(done: list[Level]) -> list[int]:
    return [level.concurrency for level in done]


def test_probes_are_levels_of_one_server(tmp_path: Path) -> None:
    run, done = ladder(tmp_path, slow_from(12)), list[Level]()
    capacity.climb(run, done)
    assert [job.folder.name for job in run.runner.jobs] == ["1", "2", "4", "8", "16", "11", "13", "12"]  # type: ignore[attr-defined]
    assert tried(done) == [1, 2, 4, 8, 11, 12, 13, 16]
    (seen,) = found.of(done, run.config)
    assert (seen.users, seen.high) == (11, 12)


def test_each_scenario_has_a_capacity_of_its_own(tmp_path: Path) -> None:
    table = slow_from(3) | slow_from(2, "D8_4")
    run, done = ladder(tmp_path, table, scenarios=["D(64,16)", "D(8,4)"]), list[Level]()
    capacity.climb(run, done)
    assert [level.name for level in done] == [
        "D(64,16) x1", "D(64,16) x2", "D(64,16) x3", "D(64,16) x4", "D(8,4) x1", "D(8,4) x2",
    ]  # fmt: skip
    assert [seen.users for seen in found.of(done, run.config)] == [2, 1]


def test_a_trial_that_cannot_reach_the_best_one_gives_up(tmp_path: Path) -> None:
    best = Incumbent(number=3, level="D(64,16) x16", score=1e6)
    run, done = ladder(tmp_path, slow_from(12), best), list[Level]()
    capacity.climb(run, done)
    assert [(level.concurrency, level.status) for level in done] == [(8, "skipped"), (16, "ok")]
    assert done[0].failure is not None
    assert done[0].failure.kind == FailureKind.RACED
    assert "trial 3 has 1e+06 at D(64,16) x16" in done[0].failure.message


def test_a_trial_that_may_reach_the_best_one_goes_on(tmp_path: Path) -> None:
    best = Incumbent(number=3, level="D(64,16) x16", score=0.001)
    run, done = ladder(tmp_path, slow_from(12), best), list[Level]()
    capacity.climb(run, done)
    assert tried(done) == [8, 11, 12, 13, 16]


def test_a_probe_that_was_cut_is_measured_again_with_the_time_that_it_needs(tmp_path: Path) -> None:
    short = Call(answered=2, writes="{name}_time_1s.json", then=Call(answered=4))
    run, done = ladder(tmp_path, slow_from(2) | {"D64_16/1": short}, max_concurrency=2), list[Level]()
    capacity.climb(run, done)
    assert [level.times_measured for level in done] == [2, 1]


def test_a_server_that_dies_ends_the_search_and_says_what_was_not_asked(tmp_path: Path) -> None:
    table = slow_from(64) | {"D64_16/4": Call(kills="killed by SIGKILL")}
    run, done = ladder(tmp_path, table, scenarios=["D(64,16)", "D(8,4)"]), list[Level]()
    with pytest.raises(ServerDied):
        capacity.climb(run, done)
    assert [(level.name, level.status) for level in done] == [
        ("D(64,16) x1", "ok"), ("D(64,16) x2", "ok"), ("D(64,16) x4", "failed"), ("D(8,4) x1", "skipped"),
    ]  # fmt: skip


def test_the_probes_of_a_trial_whose_process_was_killed_are_kept(tmp_path: Path) -> None:
    run = ladder(tmp_path, slow_from(12))
    capacity.climb(run, [])
    left = list(postmortem.levels_left(run.plan, run.config))
    assert tried(left) == [1, 2, 4, 8, 11, 12, 13, 16]
    assert {level.status for level in left} == {"ok"}
