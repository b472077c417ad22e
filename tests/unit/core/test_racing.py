"""Racing: which level is next, and when a trial is left to the better ones."""

from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.core import racing
from pipeline.core.errors import FailureKind
from pipeline.core.racing import Incumbent, Rung
from pipeline.core.record import Level
from pipeline.core.schema import Config
from support.records import make_config, make_failure, make_levels, make_metrics, make_record

SLO = {"name": "x", "ttft_s": 1.0, "attainment": 0.9, "max_error_rate": 0.1}
INSIDE, OUTSIDE = True, False


def best(level: int, score: float) -> Incumbent:
    return Incumbent(number=3, level=f"D(64,16) x{level}", score=score, spread=0.03)


def race(speeds: Mapping[int, Any], against: Incumbent | None, config: Config) -> tuple[list[int], str | None]:
    """The levels in the order in which they were measured, and how it ended."""
    run = racing.race(ladder(*speeds), config, against)
    done: list[Level] = []
    while (then := run.step([racing.seen(level, config) for level in done])).level is not None:
        users = int(run.ladder[then.level].demand)
        done.append(Level(scenario="D(64,16)", concurrency=users, status="ok", metrics=_metrics(speeds[users])))
    return [level.concurrency for level in done], then.reason


def ladder(*users: int) -> list[Rung]:
    return [Rung(scenario="D(64,16)", demand=n, name=f"D(64,16) x{n}") for n in users]


def _metrics(seen: Any) -> Any:
    if isinstance(seen, float):
        return make_metrics(output_tokens_per_s=seen)
    requests_per_s, meets = seen
    good = {
        "goodput_requests_per_s": requests_per_s if meets else 0.0,
        "meets_slo": meets,
        "slo_attainment": float(meets),
    }
    return make_metrics(requests_per_s=requests_per_s, **good)


@pytest.mark.parametrize(
    ("speeds", "against", "measured", "reason"),
    [
        pytest.param({1: 10.0, 2: 20.0, 4: 30.0}, None, [1, 2, 4], "whole", id="nothing to race against"),
        pytest.param({1: 10.0, 2: 20.0, 4: 93.0}, best(4, 100), [4], "raced", id="clearly behind"),
        pytest.param({1: 10.0, 2: 20.0, 4: 95.0}, best(4, 100), [4, 1, 2], "whole", id="may be luck"),
        pytest.param({1: 10.0, 2: 20.0, 4: 150.0}, best(4, 100), [4, 1, 2], "whole", id="better"),
        pytest.param(
            {1: 10.0, 2: 20.0, 4: 21.0}, best(2, 25), [2, 4], "raced", id="behind at its level and the busiest"
        ),
        pytest.param(
            {1: 10.0, 2: 20.0, 4: 30.0}, best(2, 25), [2, 4, 1], "whole", id="the best one is full, ours is not"
        ),
        pytest.param({1: 10.0, 2: 20.0}, best(64, 25), [1, 2], "whole", id="its level is not among ours"),
    ],
)
def test_without_an_slo_the_level_of_the_best_one_decides(
    speeds: Mapping[int, float], against: Incumbent | None, measured: list[int], reason: str
) -> None:
    assert race(speeds, against, make_config()) == (measured, reason)


@pytest.mark.parametrize(
    ("speeds", "against", "measured", "reason"),
    [
        pytest.param(
            {1: (1.0, INSIDE), 2: (2.0, INSIDE), 4: (4.0, INSIDE), 8: (8.0, OUTSIDE)},
            best(2, 3),
            [2, 4, 1, 8],
            "whole",
            id="up while it is inside and improves, then all for one that is better",
        ),
        pytest.param(
            {1: (1.0, INSIDE), 2: (2.0, INSIDE), 4: (1.9, INSIDE), 8: (9.0, INSIDE)},
            best(2, 3),
            [2, 4],
            "raced",
            id="not up where more users bring less",
        ),
        pytest.param(
            {1: (1.0, INSIDE), 2: (3.5, OUTSIDE), 4: (5.0, OUTSIDE)},
            best(4, 3),
            [4, 2, 1],
            "whole",
            id="down while its throughput would be enough",
        ),
        pytest.param(
            {1: (1.0, INSIDE), 2: (2.0, OUTSIDE), 4: (5.0, OUTSIDE)},
            best(4, 3),
            [4, 2],
            "raced",
            id="not down where its throughput is too little",
        ),
        pytest.param({2: (2.0, INSIDE), 4: (2.5, INSIDE)}, best(2, 3), [2, 4], "whole", id="no level above"),
    ],
)
def test_under_an_slo_it_moves_up_and_down_from_the_level_of_the_best_one(
    speeds: Mapping[int, Any], against: Incumbent, measured: list[int], reason: str
) -> None:
    assert race(speeds, against, make_config(slo=SLO, objective=["auto"])) == (measured, reason)


def test_of_a_latency_less_is_better() -> None:
    config = make_config(objective=["e2e_mean_s"])  # of every level here: 0.2
    assert race({1: 1.0, 2: 1.0}, best(2, 0.1), config) == ([2], "raced")
    assert race({1: 1.0, 2: 1.0}, best(2, 0.19), config) == ([2, 1], "whole")


def test_a_level_that_was_cut_has_not_lost_yet() -> None:
    level = Level(
        scenario="D(64,16)", concurrency=4, status="ok", metrics=make_metrics(output_tokens_per_s=1.0, is_cut=True)
    )
    run = racing.race(ladder(1, 4), make_config(), best(4, 100))
    assert run.step([racing.seen(level, make_config())]).level == 0


def test_the_best_one_is_whole_and_measured_by_itself() -> None:
    record = make_record(objective={"output_tokens_per_s_per_gpu": 150.0}, best_level="D(64,16) x2")
    new = racing.better(None, record)
    assert new is not None
    assert (new.number, new.level, new.score) == (7, "D(64,16) x2", 150.0)
    assert racing.better(best(2, 160), record) is None
    assert racing.better(best(2, 140), record) == new
    raced = make_failure(step="bench", kind=FailureKind.RACED)
    left_out = Level(scenario="D(64,16)", concurrency=4, status="skipped", failure=raced)
    for not_own in (
        {"phase": "confirm", "repeat_of": 1},
        {"same_as": 2},
        {"status": "failed"},
        {"levels": (*make_levels(), left_out)},
        {"objective": {"a": 1.0, "b": 2.0}},
        {"best_level": None},
    ):
        assert racing.better(None, make_record(**{"objective": record.objective, "best_level": "x", **not_own})) is None
