"""Sweeps over rates: the report speaks of requests per second, not of users."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core import traffic_size
from pipeline.core.files import SweepDir
from pipeline.core.record import Level, Record
from pipeline.report import compared, export, labels, level_table, page, plots, sentences, verdict
from pipeline.trackers import mlflow_content, wandb_trial
from support.records import CONFIG, make_config, make_metrics, make_record

NAME = "D(64,16) at 2.5 requests/s"
OPEN = make_config(traffic={**CONFIG["traffic"], "arrival": "poisson", "rates": [1.0, 2.5], "max_in_flight": 8})


def levels(speed: float) -> tuple[Level, ...]:
    return tuple(
        Level(
            scenario="D(64,16)",
            concurrency=0,
            rate=rate,
            status="ok",
            metrics=make_metrics(output_tokens_per_s=speed * rate, is_saturated=rate > 2),
        )
        for rate in (1.0, 2.5)
    )


@pytest.fixture
def records() -> list[Record]:
    return [
        make_record(
            number=number,
            is_baseline=number == 0,
            overrides=() if number == 0 else (f"page_size={number}",),
            config=replace(OPEN, knobs={**OPEN.knobs, "page_size": number or None}),
            levels=levels(speed),
            objective={"output_tokens_per_s": 2.5 * speed},
            best_level=NAME,
        )
        for number, speed in enumerate((40.0, 50.0, 60.0))
    ]


def test_the_page_has_rates(records: list[Record], tmp_path: Path) -> None:
    text = page.render(SweepDir(tmp_path), records, verdict.of(records), None)
    assert "1 to 2.5 requests/s" in text
    assert "requests sent as a Poisson process, at most 8 open" in text
    assert NAME in text
    assert "users at a time" not in text
    figure = plots.curves(records, verdict.of(records).rows, "output_tokens_per_s", "output tokens/s")
    assert figure is not None
    assert figure["layout"]["xaxis"]["title"]["text"] == "requests/s"
    assert figure["data"][0]["x"] == [1.0, 2.5]


def test_the_last_rate_of_a_ladder_is_said_to_be_the_best_one(records: list[Record]) -> None:
    said = " ".join(sentences.of(verdict.of(records)))
    assert f"{NAME} was the level with most requests/s, and the best one: more requests/s may bring more." in said


def test_a_level_with_a_growing_queue_is_marked(records: list[Record]) -> None:
    remarks = {row[1]: row[-1] for row in level_table.rows(records, verdict.of(records))}
    assert "the server does not keep up with the rate" in remarks[NAME]
    assert "does not keep up" not in remarks["D(64,16) at 1 requests/s"]


def test_words_and_columns_tell_users_from_rates(records: list[Record]) -> None:
    assert labels.demand(OPEN.traffic) == "requests/s"
    assert labels.demand(make_config().traffic) == "users at a time"
    assert compared._traffic(OPEN.traffic).endswith("D(64,16) at 1, 2.5 requests/s (poisson)")
    assert "Poisson" in traffic_size.told(OPEN.traffic)
    row = export._level(records[0], records[0].levels[1])
    assert (row["concurrency"], row["rate"]) == (None, 2.5)
    assert wandb_trial._point(records[0].levels[1])[wandb_trial.RATE] == 2.5
    assert {point.step for point in mlflow_content._series(records[0])} == {60, 150}
