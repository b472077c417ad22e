"""Records -> ranked rows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.errors import FailureKind
from pipeline.core.findings import Verdict
from pipeline.core.record import EngineTimes, Level, Load, Record
from pipeline.core.resolved import Rewrite
from pipeline.report import verdict
from pipeline.report.ranking import Row
from support.records import make_config, make_failed_record, make_failure, make_levels, make_metrics, make_record


def trial(number: int, score: float | None, *, name: str = "output_tokens_per_s", **changes: Any) -> Record:
    config = make_config(objective=[name])
    overrides = ("traffic=quick", f"n={number}")
    if score is None:
        return make_failed_record(number=number, config=config, overrides=overrides, **changes)
    return make_record(number=number, config=config, overrides=overrides, objective={name: score}, **changes)


def rank(records: Sequence[Record]) -> tuple[Row, ...]:
    return verdict.of(records).rows


def numbers(rows: tuple[Row, ...]) -> list[tuple[int | None, int]]:
    return [(row.rank, row.number) for row in rows]


@pytest.mark.parametrize(
    ("name", "scores", "expected"),
    [
        ("output_tokens_per_s", [10.0, 30.0, 20.0], [(1, 1), (2, 2), (3, 0)]),
        ("ttft_p95_s", [0.1, 0.3, 0.2], [(1, 0), (2, 2), (3, 1)]),
        ("output_tokens_per_s", [10.0, None, 20.0, None], [(1, 2), (2, 0), (None, 1), (None, 3)]),
        ("output_tokens_per_s", [None, None], [(None, 0), (None, 1)]),
        ("goodput_requests_per_s", [0.0, 1.0], [(1, 1), (2, 0)]),
        ("output_tokens_per_s", [5.0, 5.0], [(1, 0), (2, 1)]),
    ],
    ids=["most-throughput", "least-latency", "failed-last", "all-failed", "zero-is-a-result", "ties-in-their-order"],
)
def test_the_best_trial_comes_first(name: str, scores: list[float | None], expected: list[tuple[int, int]]) -> None:
    assert numbers(rank([trial(number, score, name=name) for number, score in enumerate(scores)])) == expected


def test_nothing_ranks_as_nothing() -> None:
    assert rank([]) == ()


@pytest.mark.parametrize(
    ("name", "base", "score", "change"),
    [
        ("output_tokens_per_s", 100.0, 125.0, 0.25),
        ("output_tokens_per_s", 100.0, 80.0, -0.2),
        ("ttft_p95_s", 0.2, 0.1, -0.5),
        ("goodput_requests_per_s", 0.0, 1.0, None),
    ],
    ids=["more", "less", "latency", "baseline-is-zero"],
)
def test_a_trial_is_compared_with_the_baseline(name: str, base: float, score: float, change: float | None) -> None:
    rows = rank([trial(0, base, name=name, is_baseline=True), trial(1, score, name=name)])
    found = next(row for row in rows if row.number == 1).change
    assert found == (None if change is None else pytest.approx(change))


@pytest.mark.parametrize(
    "records",
    [[trial(0, 100.0), trial(1, 125.0)], [trial(0, None, is_baseline=True), trial(1, 125.0)]],
    ids=["no-baseline", "baseline-failed"],
)
def test_without_a_baseline_there_is_no_comparison(records: list[Record]) -> None:
    assert [row.change for row in rank(records)] == [None, None]


def test_overrides_that_all_trials_share_are_left_out() -> None:
    assert [row.overrides for row in rank([trial(0, 2.0), trial(1, 1.0), trial(2, None)])] == [
        ("n=0",), ("n=1",), ("n=2",),
    ]  # fmt: skip


def test_a_single_trial_keeps_its_overrides() -> None:
    assert rank([trial(0, 2.0)])[0].overrides == ("traffic=quick", "n=0")


def test_a_row_shows_the_level_that_gave_the_objective() -> None:
    best = Level(scenario="D(64,16)", concurrency=2, status="ok", metrics=make_metrics(error_rate=0.25, tpot=None))
    (row,) = rank([trial(0, 2.0, levels=(make_levels()[0], best), best_level="D(64,16) x2")])
    assert (row.best_level, row.error_rate, row.ttft_p95_s, row.tpot_p95_s) == ("D(64,16) x2", 0.25, 0.35, None)


def test_a_failed_trial_says_why() -> None:
    (row,) = rank([trial(0, None)])
    assert (row.status, row.why) == ("failed", "server_died in wait")


def test_a_trial_judged_by_something_else_is_not_ranked() -> None:
    rows = rank([trial(0, 100.0), trial(1, 0.1, name="ttft_p95_s")])
    assert numbers(rows) == [(1, 0), (None, 1)]
    assert rows[1].objective is None


def test_several_objectives_are_ranked_by_their_volume() -> None:
    config = make_config(objective=["output_tokens_per_s", "ttft_p95_s"])
    records = [
        make_record(number=number, config=config, objective={"output_tokens_per_s": speed, "ttft_p95_s": 0.1})
        for number, speed in enumerate((1.0, 2.0))
    ]
    assert [row.objective for row in rank(records)] == [(2.0, 0.1), (1.0, 0.1)]


def asked(number: int, slots: int | None) -> Record:
    """A trial of a sweep over slots, with a fixed page size."""
    config = make_config(knobs={"page_size": 32, "slots": slots})
    return replace(trial(number, 100.0 + number), config=config)


def test_the_baseline_leaves_to_the_engine_what_the_sweep_varies() -> None:
    assert [(row.number, row.is_baseline) for row in rank([asked(0, 4), asked(1, None), asked(2, 8)])] == [
        (2, False), (1, True), (0, False)
    ]  # fmt: skip


def test_a_sweep_that_always_asks_has_no_baseline() -> None:
    assert not any(row.is_baseline for row in rank([asked(0, 4), asked(1, 8)]))


def test_repeats_are_one_row_with_an_interval() -> None:
    again = [trial(2, 11.0, repeat_of=0), trial(3, 9.0, repeat_of=1), trial(4, None, repeat_of=0)]
    first, second = rank([trial(0, 9.0), trial(1, 8.0), *again])
    assert (first.number, first.objective, first.measured, first.runs) == (0, (10.0,), 2, 3)
    assert first.half_width == pytest.approx(12.706, rel=1e-3)  # t(0.975, 1) times the standard error of 1
    assert first.flags == ("2 of 3 runs",)
    assert (second.number, second.objective, second.measured, second.runs) == (1, (8.5,), 2, 2)


def test_a_configuration_that_was_measured_once_has_no_interval() -> None:
    (row,) = rank([trial(0, 9.0)])
    assert (row.half_width, row.measured, row.runs) == (None, 1, 1)


def test_a_repeat_whose_first_trial_is_gone_stands_for_itself() -> None:
    assert [row.number for row in rank([trial(4, 9.0, repeat_of=2)])] == [4]


def test_repeats_of_the_search_give_the_change_an_interval() -> None:
    first = [trial(0, 100.0, is_baseline=True), trial(1, 150.0)]
    row = rank([*first, trial(2, 101.0, repeat_of=0), trial(3, 151.0, repeat_of=1)])[0]
    assert (row.number, row.rounds) == (1, 0)
    assert row.change_low is not None
    assert 0.3 < row.change_low < 0.5


def test_what_a_reader_must_know_is_a_flag() -> None:
    cut = Level(scenario="D(8,4)", concurrency=1, status="ok", metrics=make_metrics(is_cut=True))
    load = Load(cores=2, others_cores=1.0, is_crowded=True)
    crowded = replace(make_levels()[0], load=load)
    times = EngineTimes(requests=8, ttft_mean_s=0.01, tpot_mean_s=None, is_apart=True)
    late = replace(make_levels()[0], engine=times)
    rows = rank(
        [
            trial(0, 3.0, levels=(cut, *make_levels())),
            trial(1, 2.0, levels=(crowded,)),
            trial(2, 1.0, cached_from="old/1"),
            trial(3, None),
            trial(4, 0.5, levels=(late,)),
            trial(5, 0.4, settings_unknown="/props answered HTTP 404"),
        ]
    )
    assert [row.flags for row in rows] == [
        ("cut",), ("crowded",), ("cached",), ("clocks differ",), ("settings unknown",), ("server_died",)
    ]  # fmt: skip


def test_a_twin_shows_whose_measurement_it_is() -> None:
    rows = rank([trial(0, 100.0, same_as=1), trial(1, 100.0)])
    assert [(row.number, row.same_as) for row in rows] == [(1, None), (0, 1)]
    assert rows[1].flags == ("twin 1",)


def test_a_row_tells_what_the_engine_made_of_a_knob() -> None:
    got = Rewrite(knob="page_size", asked=32, got=64)
    foreseen = Verdict(findings=(), knobs={"page_size": 16, "slots": None})
    assert rank([trial(0, 1.0, rewrites=(got,), verdict=foreseen)])[0].rewrites == ("page_size=32→64",)
    assert rank([trial(0, 1.0, verdict=foreseen)])[0].rewrites == ("page_size=32→16",)
    assert rank([trial(0, 1.0)])[0].rewrites == ()


def test_a_refused_trial_says_so() -> None:
    failure = make_failure(step="preflight", kind=FailureKind.UNSUPPORTED_COMBINATION)
    (row,) = rank([make_failed_record(status="refused", failure=failure)])
    assert (row.why, row.flags) == ("refused: unsupported_combination", ("refused",))
