"""Level by level, and what a sweep has cost."""

from dataclasses import replace
from typing import Any

from pipeline.core.errors import FailureKind
from pipeline.core.record import EngineMetrics, Level, Record, StepTiming
from pipeline.report import level_table, spent, verdict
from support.records import make_config, make_failure, make_metrics, make_record


def steps(**seconds: float) -> tuple[StepTiming, ...]:
    return tuple(StepTiming(step=name, seconds=took, status="ok") for name, took in seconds.items())


def pair(**changes: Any) -> list[Record]:
    base = make_record(number=0, is_baseline=True, overrides=("page_size=null",))
    best = make_record(number=1, objective={"output_tokens_per_s": 200.0}, overrides=("page_size=64",))
    return [base, replace(best, **changes)]


def test_the_recommended_one_is_beside_the_baseline() -> None:
    records = pair()
    rows = list(level_table.rows(records, verdict.of(records)))
    assert [row[:4] for row in rows] == [
        ["1 (recommended)", "D(64,16) x1", "8", "100"], ["1 (recommended)", "D(64,16) x2", "8", "150"],
        ["0 (baseline)", "D(64,16) x1", "8", "100"], ["0 (baseline)", "D(64,16) x2", "8", "150"],
    ]  # fmt: skip
    assert rows[1][4:] == ["200 / 350 ms", "200 / 350 ms", "0.20 / 0.35 s", "0%", "", "", "", "gives the score"]


def test_what_the_engine_said_is_beside_it() -> None:
    told = EngineMetrics(samples=3, waiting_mean=2.25, prefix_hit_rate=0.79)
    records = pair()
    records = [
        replace(one, levels=tuple(replace(level, engine_metrics=told) for level in one.levels)) for one in records
    ]
    rows = list(level_table.rows(records, verdict.of(records)))
    assert {tuple(row[-3:-1]) for row in rows} == {("2.2", "79%")}


def test_what_was_left_out_or_cut_is_said() -> None:
    skipped = Level(
        scenario="D(64,16)",
        concurrency=4,
        status="skipped",
        failure=make_failure(kind=FailureKind.OVERLOADED, message="x2 was overloaded"),
    )
    cut = Level(
        scenario="D(64,16)",
        concurrency=8,
        status="ok",
        metrics=make_metrics(is_cut=True, num_planned=9),
        times_measured=2,
    )
    records = pair(levels=(skipped, cut))
    left, short, *_ = level_table.rows(records, verdict.of(records))
    assert (left[2:-1], left[-1]) == ([""] * 9, "x2 was overloaded")
    assert (short[2], short[-1]) == ("8 of 9", "cut: its time was up; measured 2 times")


def test_time_counts_while_a_server_holds_the_machine() -> None:
    took = steps(preflight=100, model=500, slots=900, deploy=600, bench=1100, teardown=100, record=50, tracker=60)
    twin = make_record(number=2, same_as=1, steps=took)
    assert dict(spent.facts([make_record(steps=took), make_record(number=1, steps=took), twin])) == {
        "hours of the machine": "1.00"
    }


def test_gpus_and_their_price_multiply() -> None:
    priced = make_config(hardware={"name": "h100", "gpu_count": 2, "usd_per_gpu_hour": 3.0})
    told = dict(spent.facts([make_record(config=priced, steps=steps(bench=3600))]))
    assert told == {"GPU-hours": "2.00", "US dollars": "6.00"}
