"""The ladder of levels: what one level does to its neighbours, and what it must not do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fakes import Answer, Call, FakeBackend, FakeEngine, FakeProgress, FakeRunner, make_deployment
from pipeline.backends import Deployment
from pipeline.config import planning
from pipeline.core import objectives
from pipeline.core.errors import BenchFailed, FailureKind, Interrupted, ServerDied, StepTimedOut
from pipeline.core.plan import Assets
from pipeline.core.racing import Incumbent
from pipeline.core.record import Level
from pipeline.trial.levels import Ladder
from pipeline.trial.meter import Meter
from support.records import CONFIG, make_config

FILES = Assets(model_path=Path("/m.gguf"), tokenizer_dir=Path("/tok"))
SLO = {"name": "x", "ttft_s": 1.0, "attainment": 0.9, "max_error_rate": 0.1}


@dataclass
class Climb:
    """One climb and what came of it."""

    folder: Path
    table: dict[str, Call]
    traffic: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
    how: str | None = None
    backend: FakeBackend = field(default_factory=FakeBackend)
    url: str = "http://127.0.0.1:9"  # discard: nothing listens there
    best: Incumbent | None = None
    death_s: float = 0
    in_time: Callable[[], None] = lambda: None
    done: list[Level] = field(default_factory=list)
    progress: FakeProgress = field(default_factory=FakeProgress)

    def ladder(self) -> Ladder:
        """What is climbed."""
        traffic = {**CONFIG["traffic"], "concurrencies": [1, 2, 4], **self.traffic}
        config = make_config(traffic=traffic, **self.sections)
        backend = self.backend
        backend.how = backend.how or self.how
        return Ladder(
            config=config,
            plan=planning.make(config, FILES, sweep_id="s", number=0, run_dir=self.folder),
            deployment=make_deployment(self.folder, self.url),
            backend=backend,
            runner=FakeRunner(backend, self.table),
            progress=self.progress,
            best=self.best,
            death_s=self.death_s,
            in_time=self.in_time,
        )

    def run(self) -> list[Level]:
        """Climb to the end."""
        self.ladder().climb(self.done)
        return self.done

    @property
    def statuses(self) -> list[str]:
        """In the levels' order."""
        return [level.status for level in self.done]


def why(level: Level) -> str:
    assert level.failure is not None
    return level.failure.message


def test_every_level_is_measured_in_rising_order(tmp_path: Path) -> None:
    climb = Climb(tmp_path, {})
    levels = climb.run()
    assert [level.name for level in levels] == ["D(64,16) x1", "D(64,16) x2", "D(64,16) x4"]
    assert climb.statuses == ["ok"] * 3
    assert climb.progress.told == ["bench D(64,16) x1", "bench D(64,16) x2", "bench D(64,16) x4"]


def test_how_far_a_level_is_is_told_while_it_runs(tmp_path: Path) -> None:
    climb = Climb(tmp_path, {})
    ladder = climb.ladder()
    said = iter(["3 of 8 requests, 41 output tokens/s", None])
    meter = cast("Meter", SimpleNamespace(said=lambda: next(said)))
    look = ladder.watch(ladder.plan.levels[0], meter)
    look()
    look()
    assert climb.progress.told == ["bench D(64,16) x1: 3 of 8 requests, 41 output tokens/s"]


def test_a_level_holds_its_numbers_and_where_they_came_from(tmp_path: Path) -> None:
    level = Climb(tmp_path, {"1": Call(answered=7, failed=1)}).run()[0]
    assert level.metrics is not None
    assert (level.metrics.num_requests, level.metrics.num_errors) == (8, 1)
    assert level.elapsed_s == 1.25
    assert level.result_file == "bench/D64_16/1/D64_16_time_1s.json"
    assert (tmp_path / level.result_file).is_file()
    assert level.warnings == ("1 of 8 requests failed: HTTP 503 (1)",)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call(writes=""), "genai-bench wrote no result to "),
        (Call(writes="", error="ValueError: told to crash"), "ValueError: told to crash"),
        (Call(error="did not end within 40 s and was stopped"), "did not end within 40 s and was stopped"),
        (
            Call(answered=3, failed=1, writes="debug_for_run_{name}.json", error="ValueError: No values found"),
            "ValueError: No values found",
        ),
    ],
    ids=["no-result", "crash", "hang", "crash-though-some-answered"],
)
def test_a_failed_level_keeps_its_neighbours(tmp_path: Path, call: Call, words: str) -> None:
    climb = Climb(tmp_path, {"2": call})
    levels = climb.run()
    assert climb.statuses == ["ok", "failed", "ok"]
    assert words in why(levels[1])
    assert levels[1].failure is not None
    assert levels[1].failure.kind == FailureKind.BENCH_ERROR


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call(answered=0, failed=8), "0 of 8 requests answered: HTTP 503 (8)"),
        (
            Call(answered=0, failed=4, writes="debug_for_run_{name}.json", error="ValueError: No values found"),
            "0 of 4 requests answered: HTTP 503 (4)",
        ),
    ],
    ids=["result", "crash"],
)
def test_a_level_whose_every_request_was_refused_ends_its_ladder(tmp_path: Path, call: Call, words: str) -> None:
    climb = Climb(tmp_path, {"2": call})
    level = climb.run()[1]
    assert climb.statuses == ["ok", "failed", "skipped"]
    assert why(level) == words
    assert level.failure is not None
    assert level.failure.kind == FailureKind.OVERLOADED
    assert "n_parallel" in level.failure.hint


def test_a_level_whose_every_request_failed_otherwise_is_no_overload(tmp_path: Path) -> None:
    level = Climb(tmp_path, {"1": Call(answered=0, failed=8, code=500)}).run()[0]
    assert level.failure is not None
    assert (why(level), level.failure.kind) == ("0 of 8 requests answered: HTTP 500 (8)", FailureKind.BENCH_ERROR)


TOO_MUCH = {"D64_16/2": Call(answered=2, failed=8)}
TOO_SLOW = {"D64_16/2": Call(ttft_s=9.0)}
TWO = {"scenarios": ["D(64,16)", "D(8,4)"]}


@pytest.mark.parametrize(
    ("table", "traffic", "sections", "statuses"),
    [
        (TOO_MUCH, {}, {}, ["ok", "ok", "skipped"]),
        (TOO_SLOW, {}, {"slo": SLO}, ["ok", "ok", "skipped"]),
        (TOO_SLOW, {}, {}, ["ok", "ok", "ok"]),
        (TOO_MUCH, {"all_levels": True}, {}, ["ok", "ok", "ok"]),
        ({"D64_16/4": Call(answered=2, failed=8)}, {"order": "busiest_first"}, {}, ["ok", "ok", "ok"]),
        (TOO_MUCH, TWO, {}, ["ok", "ok", "skipped", "ok", "ok", "ok"]),
        ({"D64_16/2": Call(answered=5, failed=5)}, {}, {}, ["ok", "ok", "ok"]),
        ({"D64_16/2": Call(writes="", error="crash")}, {}, {}, ["ok", "failed", "ok"]),
    ],
    ids=[
        "errors", "slo-missed-by-far", "slow-without-slo", "all-levels-asked-for", "less-load-may-be-carried",
        "only-its-own-scenario",
        "half-answered", "failed-is-not-overloaded",
    ],
)  # fmt: skip
def test_an_overloaded_level_ends_its_ladder(
    tmp_path: Path, table: dict[str, Call], traffic: dict[str, Any], sections: dict[str, Any], statuses: list[str]
) -> None:
    climb = Climb(tmp_path, table, traffic, sections)
    climb.run()
    assert climb.statuses == statuses


def test_the_busiest_level_is_first_where_that_is_asked(tmp_path: Path) -> None:
    climb = Climb(tmp_path, {}, {"order": "busiest_first"})
    assert [level.concurrency for level in climb.run()] == [4, 2, 1]


def test_a_skipped_level_says_why_and_how_to_measure_it(tmp_path: Path) -> None:
    level = Climb(tmp_path, TOO_MUCH).run()[2]
    assert why(level) == "D(64,16) x2 was overloaded; set traffic.all_levels=true to measure this level anyway"
    assert level.failure is not None
    assert level.failure.kind == FailureKind.OVERLOADED
    assert not (tmp_path / "bench" / "D64_16" / "4").exists()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (Call(kills="killed by SIGKILL"), ServerDied, "The server ended: killed by SIGKILL."),
        (Call(kills_late="exit code 7"), ServerDied, "The server ended: exit code 7."),
        (Call(raises=Interrupted(15)), Interrupted, "stopped by SIGTERM"),
        (Call(raises=KeyboardInterrupt()), KeyboardInterrupt, "stopped by KeyboardInterrupt"),
        (Call(raises=OSError("disk on fire")), OSError, "OSError: disk on fire"),
    ],
    ids=["server-dies", "server-dies-at-the-end", "signal", "ctrl-c", "our-own-error"],
)
def test_what_ends_the_trial_fails_its_level_and_skips_the_rest(
    tmp_path: Path, call: Call, error: type[BaseException], words: str
) -> None:
    climb = Climb(tmp_path, {"2": call})
    with pytest.raises(error):
        climb.run()
    assert climb.statuses == ["ok", "failed", "skipped"]
    assert words in why(climb.done[1])
    assert why(climb.done[2]) == "the trial ended before this level"


def test_a_level_is_broken_off_when_the_server_dies(tmp_path: Path) -> None:
    with pytest.raises(ServerDied):
        Climb(tmp_path, {"2": Call(kills="killed by SIGKILL")}).run()
    assert [path.name for path in (tmp_path / "bench" / "D64_16").iterdir()] == ["1"]


def test_a_server_that_is_dead_from_the_start_is_told_by_its_first_level(tmp_path: Path) -> None:
    climb = Climb(tmp_path, {}, how="exit code 1")
    with pytest.raises(ServerDied, match="exit code 1"):
        climb.run()
    assert [level.status for level in climb.done] == ["failed", "skipped", "skipped"]
    assert {level.failure.kind for level in climb.done[1:] if level.failure} == {FailureKind.NOT_RUN}


@dataclass
class Dying(FakeBackend):
    """vLLM whose EngineCore was killed: it answers with errors, and ends a moment later."""

    died: Path
    how: str | None = None
    looks: int = 0

    def death(self, deployment: Deployment) -> str | None:
        """Not at once."""
        self.looks += self.died.exists()
        return "exit code 0" if self.looks > 2 else None


@pytest.mark.parametrize(("answered", "failed"), [(0, 8), (7, 1)], ids=["all-failed", "one-failed"])
def test_requests_that_fail_before_the_server_ends_are_its_death(tmp_path: Path, answered: int, failed: int) -> None:
    backend = Dying(died=tmp_path / "bench" / "D64_16" / "2")
    call = Call(answered=answered, failed=failed, code=500)
    climb = Climb(tmp_path, {"2": call}, backend=backend, death_s=10)
    with pytest.raises(ServerDied, match="exit code 0"):
        climb.run()
    assert climb.statuses == ["ok", "failed", "skipped"]
    assert climb.done[1].failure is not None
    assert climb.done[1].failure.kind == FailureKind.SERVER_DIED


def test_a_healthy_server_that_fails_requests_is_not_waited_for(tmp_path: Path) -> None:
    with FakeEngine(**{"GET /health": (200, {})}) as server:
        climb = Climb(tmp_path, {"2": Call(answered=0, failed=8, code=500)}, url=server.url, death_s=3600)
        climb.run()
    assert climb.statuses == ["ok", "failed", "ok"]
    assert server.asked.count("GET /health") == 1


def clock(count: int, seconds: float) -> Answer:
    return 200, f"x:ttft_count {count}\nx:ttft_sum {seconds}\n"


def test_the_engines_own_clock_is_read_around_each_level(tmp_path: Path) -> None:
    runtime = {**CONFIG["runtime"], "tells": {"metrics_path": "/metrics", "ttft": ["x:ttft"]}}
    answers: list[Answer] = [clock(2, 1.0), clock(10, 2.6), clock(10, 2.6), clock(18, 2.8), (500, ""), clock(26, 9.0)]
    with FakeEngine(**{"GET /metrics": answers}) as server:
        levels = Climb(tmp_path, {}, sections={"runtime": runtime}, url=server.url).run()
    seen = [level.engine.ttft_mean_s if level.engine else None for level in levels]
    assert seen == [pytest.approx(0.2), pytest.approx(0.025), None]
    assert [level.warnings for level in (levels[0], levels[2])] == [(), ()]
    assert levels[1].warnings[0].startswith("latencies differ: mean TTFT 200 ms at the load generator, 25 ms in the")


CUT = Call(answered=4)  # of 8


def test_a_cut_level_that_would_decide_is_measured_again_with_the_time_that_it_needs(tmp_path: Path) -> None:
    only = {"max_time_per_level_s": 2.0, "min_requests": 8, "concurrencies": [4]}
    climb = Climb(tmp_path, {"4": Call(answered=7, then=Call(answered=8))}, only)
    ladder = climb.ladder()
    ladder.climb(climb.done)
    last = climb.done[-1]
    assert last.metrics is not None
    assert (last.metrics.is_cut, last.times_measured) == (False, 2)
    assert isinstance(ladder.runner, FakeRunner)
    assert ladder.runner.jobs[-1].max_time_s == pytest.approx(1.5 * 2.0 * 8 / 7)
    assert (tmp_path / "bench/D64_16/4~1").is_dir()


def test_a_level_that_is_cut_again_cannot_win(tmp_path: Path) -> None:
    climb = Climb(tmp_path, {"1": CUT, "2": CUT, "4": CUT}, {"max_time_per_level_s": 9.0, "min_requests": 8})
    levels = climb.run()
    assert [level.metrics.is_cut for level in levels if level.metrics] == [True] * 3
    assert {level.times_measured for level in levels} == {2}
    with pytest.raises(BenchFailed, match="cut: 4 of 8 requests ended in time"):
        objectives.of(levels, climb.ladder().config)


def test_a_cut_level_that_would_not_decide_is_left_as_it_is(tmp_path: Path) -> None:
    levels = Climb(tmp_path, {"1": CUT}, {"max_time_per_level_s": 9.0, "min_requests": 8}).run()
    assert [level.times_measured for level in levels] == [1, 1, 1]
    assert levels[0].metrics is not None
    assert levels[0].metrics.is_cut


def test_a_level_that_would_need_very_long_is_not_measured_again(tmp_path: Path) -> None:
    climb = Climb(tmp_path, {"1": CUT, "2": CUT, "4": CUT}, {"max_time_per_level_s": 0.1, "min_requests": 8})
    assert [level.times_measured for level in climb.run()] == [1, 1, 1]


def test_a_level_with_too_many_errors_says_why_it_cannot_be_used(tmp_path: Path) -> None:
    level = Climb(tmp_path, {"1": Call(answered=4, failed=4, code=400)}).run()[0]
    assert level.failure is not None
    assert (level.status, level.failure.kind) == ("ok", FailureKind.REQUEST_REJECTED)
    assert why(level) == "4 of 8 requests failed: HTTP 400 (4); at most 10% may fail (slo.max_error_rate)"


def test_what_is_behind_the_best_one_at_its_level_is_not_measured_elsewhere(tmp_path: Path) -> None:
    climb = Climb(tmp_path, {}, best=Incumbent(number=3, level="D(64,16) x2", score=1e6))
    levels = climb.run()
    assert climb.progress.told == ["bench D(64,16) x2", "bench D(64,16) x4"]
    assert climb.statuses == ["skipped", "ok", "ok"]
    assert why(levels[0]).startswith("raced: ")
    assert "trial 3 has 1e+06 at D(64,16) x2" in why(levels[0])
    assert levels[0].failure is not None
    assert levels[0].failure.kind == FailureKind.RACED


def test_what_is_better_is_measured_at_every_level_and_told_in_their_order(tmp_path: Path) -> None:
    climb = Climb(tmp_path, {}, best=Incumbent(number=3, level="D(64,16) x4", score=1e-6))
    assert [level.name for level in climb.run()] == ["D(64,16) x1", "D(64,16) x2", "D(64,16) x4"]
    assert climb.progress.told == ["bench D(64,16) x4", "bench D(64,16) x1", "bench D(64,16) x2"]
    assert climb.statuses == ["ok"] * 3


def test_a_trial_whose_time_is_over_keeps_what_it_has_measured(tmp_path: Path) -> None:
    looks = iter(range(100))

    def in_time() -> None:
        if next(looks) >= 3:  # the first level looks twice
            raise StepTimedOut("The trial did not end within 9 s (timeouts.trial_s).")

    climb = Climb(tmp_path, {}, in_time=in_time)
    with pytest.raises(StepTimedOut):
        climb.run()
    assert [level.status for level in climb.done] == ["ok", "failed", "skipped"]
    assert climb.done[0].metrics is not None
    assert [level.failure.kind for level in climb.done if level.failure] == [
        FailureKind.STEP_TIMED_OUT, FailureKind.NOT_RUN
    ]  # fmt: skip
