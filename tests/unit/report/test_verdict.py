"""What a sweep has shown: by its rounds, by its search alone, or nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.limits import Limits
from pipeline.core.record import Level, Record, Stats
from pipeline.core.schema import Slo
from pipeline.report import command, sentences, summary, verdict
from pipeline.report.__main__ import main
from pipeline.report.verdict import Verdict
from pipeline.sweep.search import outcome, policy
from pipeline.sweep.search.policy import Seen
from support import dice
from support.records import make_config, make_failed_record, make_metrics, make_record

SLO = {"name": "tight", "attainment": 0.9, "max_error_rate": 0.1, "tpot_s": 0.3}
GOODPUT = "goodput_requests_per_s_per_gpu"


def trial(number: int, score: float | None, *, name: str = "output_tokens_per_s", **changes: Any) -> Record:
    config = make_config(objective=[name], knobs={"page_size": changes.pop("page_size", 32), "slots": None})
    changes = {"number": number, "config": config, "overrides": (f"page_size={config.knobs['page_size']}",)} | changes
    return make_failed_record(**changes) if score is None else make_record(**changes, objective={name: score})


def base(number: int, score: float | None, **changes: Any) -> Record:
    return trial(number, score, **{"page_size": None, "is_baseline": True, **changes})


def rounds(*pairs: tuple[float | None, float | None], of: int = 1, begin: int = 3, **changes: Any) -> list[Record]:
    """What each round measured of a contender and the baseline, the first of them alternating."""
    made = []
    for turn, (ours, theirs) in enumerate(pairs):
        number = begin + 2 * turn
        order = (number, number + 1) if turn % 2 == 0 else (number + 1, number)
        more = {"phase": "confirm", **changes}
        made += [trial(order[0], ours, repeat_of=of, **more), base(order[1], theirs, repeat_of=0, **more)]
    return sorted(made, key=lambda record: record.number)


def sweep(*pairs: tuple[float | None, float | None], **changes: Any) -> list[Record]:
    """Baseline 0, leader 1, follower 2, then rounds of the leader."""
    return [base(0, 100.0), trial(1, 130.0), trial(2, 120.0, page_size=64), *rounds(*pairs, **changes)]


MORE_USERS = "traffic.levels=capacity looks for the most that the server can have."


def told(records: list[Record]) -> list[str]:
    """All but that the last level of the ladder was the best one: it is in all of these."""
    return [line for line in sentences.of(verdict.of(records)) if not line.endswith(MORE_USERS)]


def ends(found: Verdict) -> tuple[str, int | None, int]:
    return found.kind, found.recommended, found.exit_code


BETTER = ((120.0, 100.0), (118.0, 99.0), (122.0, 101.0))
EQUAL = ((105.0, 100.0), (95.0, 101.0), (101.0, 99.0))
WORSE = ((80.0, 100.0), (81.0, 101.0), (79.0, 99.0))


def test_a_winner_is_named_by_its_rounds_alone() -> None:
    found = verdict.of(sweep(*BETTER))
    assert ends(found) == ("confirmed", 1, 0)
    best = found.best
    assert best is not None
    assert (best.rank, best.rounds, best.objective) == (1, 3, (130.0,))
    assert best.change == pytest.approx(0.2, abs=0.01)  # not the search's 30%
    assert best.change_low is not None
    assert 0 < best.change_low < 0.2
    assert told(sweep(*BETTER))[0].startswith(
        "Trial 1 against the baseline, by 3 alternating rounds: better by 20.0% ["
    )


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (EQUAL, "Trial 1 by 3 alternating rounds: no difference shown ("),
        (WORSE, "Trial 1 by 3 alternating rounds: worse by 20."),
    ],
    ids=["by luck", "worse"],
)
def test_a_leader_that_falls_leaves_the_baseline(pairs: Any, words: str) -> None:
    found = verdict.of(sweep(*pairs))
    assert ends(found) == ("no difference", 0, 0)
    assert [row.number for row in found.rows] == [0, 1, 2]
    headline, fell = told(sweep(*pairs))
    assert headline.endswith("the baseline is recommended.")
    assert fell.startswith(words)


def test_the_next_contender_may_win() -> None:
    seen = [*sweep(*WORSE), *rounds(*BETTER, of=2, begin=9, page_size=64)]
    found = verdict.of(seen)
    assert ends(found) == ("confirmed", 2, 0)
    assert [row.number for row in found.rows] == [2, 1, 0]
    assert [row.change is not None and row.change > 0 for row in found.rows] == [True, False, False]


@pytest.mark.parametrize(
    ("pair", "expected"),
    [((120.0, 100.0), ("once", 1, 0)), ((90.0, 100.0), ("no difference", 0, 0))],
    ids=["as the search said", "contradicts it"],
)
def test_one_round_can_only_contradict(pair: tuple[float, float], expected: tuple[str, int, int]) -> None:
    found = verdict.of(sweep(pair, rounds=1))
    assert ends(found) == expected
    row = next(row for row in found.rows if row.number == 1)
    assert row.change == pytest.approx(pair[0] / 100 - 1)
    assert (row.change_margin, row.rounds) == (None, 1)


def test_so_many_rounds_are_looked_at_once() -> None:
    few = ((120.0, 100.0), (121.0, 100.0), (125.0, 100.0))
    assert verdict.of(sweep(*few, rounds=3)).kind == "confirmed"
    assert verdict.of(sweep(*few[:2], rounds=3)).is_unfinished
    assert verdict.of(sweep(*few[:2], rounds=2)).kind == "confirmed"
    assert verdict.of(sweep((120.0, 100.0), (160.0, 100.0), rounds=2)).kind == "no difference"


def test_rounds_that_end_early_show_nothing() -> None:
    early = verdict.of(sweep((120.0, 100.0)))
    assert (ends(early), early.is_unfinished) == (("once", 1, 0), True)
    assert ends(verdict.of(sweep((90.0, 100.0)))) == ("no difference", 0, 0)
    assert ends(verdict.of(sweep((120.0, 100.0), (118.0, 99.0), (150.0, 101.0)))) == ("no difference", 0, 0)


def test_without_rounds_the_search_is_said_to_be_one() -> None:
    found = verdict.of(sweep())
    assert ends(found) == ("once", 1, 0)
    assert found.rows[0].change == pytest.approx(0.3)
    (only,) = told(sweep())
    assert only.startswith("Trial 1 against the baseline was measured once: a difference can be noise.")


def test_less_latency_is_better() -> None:
    name = "ttft_p95_s"
    pairs = tuple((0.5 + 0.001 * i, 1.0) for i in range(3))
    seen = [base(0, 1.0, name=name), trial(1, 0.4, name=name), *rounds(*pairs, name=name)]
    found = verdict.of(seen)
    assert ends(found) == ("confirmed", 1, 0)
    row = found.rows[0]
    assert row.change is not None
    assert row.change_low is not None
    assert row.change_high is not None
    assert row.change_low < row.change < row.change_high < 0
    assert row.change == pytest.approx(-0.5, abs=0.01)
    assert "better by 49." in told(seen)[0]


def test_rounds_that_do_not_count_are_said() -> None:
    lost = told(sweep((120.0, 100.0), (118.0, 99.0), (None, 101.0), (122.0, 101.0)))
    assert "1 of its rounds did not count: trial 1 failed or missed the SLO." in lost
    void = told(sweep((120.0, 100.0), (118.0, None), (120.0, 101.0), (122.0, 101.0)))
    assert "1 of its rounds did not count: the baseline failed." in void
    there = [replace(one, environment={"host": f"node-{one.number}"}) for one in rounds(*BETTER)]
    apart = told([*sweep(), *there])
    assert "3 of its rounds did not count: the two ran on different hosts or GPUs." in apart


def test_a_baseline_that_cannot_be_measured_again_is_not_recommended() -> None:
    """It did well in the search, and fails whenever the contender does not."""
    records = sweep((120.0, None), (118.0, None))
    assert ends(verdict.of(records)) == ("once", 1, 0)
    assert "2 of its rounds did not count: the baseline failed." in told(records)
    both_fail = sweep((None, 100.0), (118.0, None), (120.0, None))
    assert ends(verdict.of(both_fail)) == ("not kept", None, 1)


def test_a_contender_that_fails_twice_in_a_row_falls() -> None:
    found = verdict.of(sweep((None, 100.0), (None, 100.0)))
    assert ends(found) == ("no difference", 0, 0)
    assert "it failed or missed the SLO, in several rounds in a row" in told(sweep((None, 100.0), (None, 100.0)))[1]


def test_a_measurement_without_its_counterpart_is_in_no_round() -> None:
    found = verdict.of([*sweep(*BETTER), trial(9, 500.0, repeat_of=1, phase="confirm")])
    assert found.contests[0].finding.rounds == 3


@pytest.mark.parametrize(
    ("pairs", "expected", "words"),
    [
        (BETTER, ("confirmed", 1, 0), "better by 20.0%"),
        (WORSE, ("not held", 0, 0), "worse by 20."),
    ],
)
def test_other_traffic_counts_as_well(pairs: Any, expected: tuple[str, int, int], words: str) -> None:
    seen = [*sweep(*BETTER), *rounds(*pairs, begin=20, phase="held_out")]
    assert ends(verdict.of(seen)) == expected
    assert any("Under traffic=quick, which the search did not use" in said and words in said for said in told(seen))


def test_a_single_round_of_other_traffic_can_contradict() -> None:
    seen = [*sweep(), *rounds((90.0, 100.0), begin=20, phase="held_out", rounds=1)]
    assert ends(verdict.of(seen)) == ("not held", 0, 0)


def test_without_a_baseline_the_best_score_is_all_there_is() -> None:
    seen = [trial(0, 100.0), trial(1, 150.0, page_size=64)]
    assert ends(verdict.of(seen)) == ("no baseline", 1, 0)
    assert "no baseline with a result" in told(seen)[0]
    assert "(once): a difference to the others can be noise" in told(seen)[0]
    again = [*seen, trial(2, 151.0, page_size=64, repeat_of=1)]
    assert "(once)" not in told(again)[0]
    failed = [base(0, None), trial(1, 150.0)]
    assert ends(verdict.of(failed)) == ("no baseline", 1, 0)


def test_small_sweeps() -> None:
    assert ends(verdict.of([])) == ("no result", None, 1)
    assert ends(verdict.of([trial(0, None), trial(1, None)])) == ("no result", None, 1)
    assert ends(verdict.of([trial(0, 1.0)])) == ("single", 0, 0)
    assert ends(verdict.of([base(0, 100.0), trial(1, 90.0)])) == ("baseline", 0, 0)


def judged(number: int, goodput: float, tpot_s: float, **changes: Any) -> Record:
    """A trial of one level with this TPOT."""
    times = Stats(mean=tpot_s, p50=tpot_s, p90=tpot_s, p95=tpot_s, p99=tpot_s)
    is_in = tpot_s <= 0.3
    share = 1.0 if is_in else 0.0
    seen = make_metrics(tpot=times, meets_slo=is_in, slo_attainment=share, goodput_requests_per_s=goodput)
    level = Level(scenario="D(64,16)", concurrency=1, status="ok", metrics=seen)
    knobs = {"page_size": None if changes.get("is_baseline") else 32, "slots": None}
    config = make_config(objective=[GOODPUT], knobs=knobs, slo=SLO)
    return make_record(
        **{
            "number": number,
            "config": config,
            "overrides": (f"n={number}",),
            "levels": (level,),
            "objective": {GOODPUT: goodput if is_in else 0.0},
            "best_level": level.name if is_in else None,
            **changes,
        }
    )


def test_no_configuration_meets_the_slo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [judged(0, 0.0, 0.6, is_baseline=True), judged(1, 0.0, 0.33)]
    assert ends(verdict.of(records)) == ("no SLO", None, 1)
    written(tmp_path, records)
    (SweepDir(tmp_path).best_dir / "ome").mkdir(parents=True)  # of an earlier end
    (SweepDir(tmp_path).best_dir / "card.json").write_text("{}")
    SweepDir(tmp_path).best.write_text("{}")
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert (
        "No configuration meets the SLO; closest: trial 1 (n=1) misses slo.tpot_s=0.3 by 10% (TPOT p90 is 0.33), "
        "at D(64,16) x1." in out
    )
    assert "Best:" not in out
    assert not SweepDir(tmp_path).best.exists()
    assert not SweepDir(tmp_path).best_dir.exists()


def test_a_latency_outside_the_slo_is_no_result_but_close() -> None:
    records = [
        replace(judged(n, 0.0, seen), objective=None, status="failed", failure=make_failed_record().failure)
        for n, seen in ((0, 0.9), (1, 0.6))
    ]
    found = verdict.of(records)
    assert ends(found) == ("no SLO", None, 1)
    assert found.closest is not None
    assert found.closest.number == 1
    assert found.closest.misses[0].share == pytest.approx(1.0)


def test_a_baseline_outside_the_slo_has_no_percentage() -> None:
    records = [judged(0, 0.0, 0.6, is_baseline=True), judged(1, 5.0, 0.2)]
    found = verdict.of(records)
    assert (ends(found), found.rows[0].change) == (("once", 1, 0), None)
    assert "the baseline does not, so there is no change against it" in told(records)[0]
    for turn in range(3):
        pair = [judged(0, 0.0, 0.6, is_baseline=True, repeat_of=0), judged(1, 5.0, 0.2, repeat_of=1)]
        records += [replace(one, number=2 + 2 * turn + i, phase="confirm") for i, one in enumerate(pair)]
    found = verdict.of(records)
    assert (ends(found), found.rows[0].change) == (("confirmed", 1, 0), None)
    assert told(records)[0].startswith("Trial 1 meets the SLO and the baseline does not: so in all of 3 alternating")


def test_a_winner_that_does_not_keep_the_slo_is_not_recommended() -> None:
    records = [judged(0, 0.0, 0.6, is_baseline=True), judged(1, 5.0, 0.2)]
    for turn in range(2):
        pair = [judged(0, 0.0, 0.6, is_baseline=True, repeat_of=0), judged(1, 0.0, 0.4, repeat_of=1)]
        records += [replace(one, number=2 + 2 * turn + i, phase="confirm") for i, one in enumerate(pair)]
    assert ends(verdict.of(records)) == ("not kept", None, 1)


NAMES = ["output_tokens_per_s", "ttft_p95_s"]


def several(number: int, *points: tuple[float, float], **changes: Any) -> Record:
    """A trial of two objectives, a level for each point; the last level has the most volume."""
    levels = tuple(
        Level(
            scenario="D(64,16)",
            concurrency=users,
            status="ok",
            metrics=make_metrics(
                output_tokens_per_s=speed, ttft=Stats(mean=ttft, p50=ttft, p90=ttft, p95=ttft, p99=ttft)
            ),
        )
        for users, (speed, ttft) in enumerate(points, start=1)
    )
    knobs = {"page_size": None if changes.get("is_baseline") else 32, "slots": None}
    return make_record(
        **{
            "number": number,
            "config": make_config(objective=NAMES, knobs=knobs),
            "overrides": (f"n={number}",),
            "levels": levels,
            "objective": dict(zip(NAMES, points[-1], strict=True)),
            "best_level": levels[-1].name,
            **changes,
        }
    )


def test_each_point_of_the_front_is_one_level_of_one_trial() -> None:
    records = [several(0, (50.0, 0.2), (100.0, 0.3), is_baseline=True), several(1, (200.0, 0.9), (90.0, 0.25))]
    found = verdict.of(records)
    assert [(point.number, point.level, point.scores) for point in found.front] == [
        (1, "D(64,16) x1", (200.0, 0.9)),
        (0, "D(64,16) x2", (100.0, 0.3)),
        (1, "D(64,16) x2", (90.0, 0.25)),
        (0, "D(64,16) x1", (50.0, 0.2)),
    ]
    assert [row.flags for row in found.rows] == [("front (once)",)] * 2
    assert ends(found) == ("once", 1, 0)


def test_a_front_is_measured_again() -> None:
    records = [several(0, (100.0, 0.3), is_baseline=True), several(1, (150.0, 0.3)), several(2, (90.0, 0.9))]
    for turn, speed in enumerate((120.0, 121.0, 119.0)):
        begin = 3 + 2 * turn
        records.append(several(begin, (100.0, 0.3), is_baseline=True, repeat_of=0, phase="confirm"))
        records.append(several(begin + 1, (speed, 0.3), repeat_of=1, phase="confirm"))
    found = verdict.of(records)
    assert ends(found) == ("confirmed", 1, 0)
    assert [(point.scores, point.rounds) for point in found.front] == [((120.0, 0.3), 3)]
    assert [row.flags for row in found.rows] == [("front",), (), ()]
    assert any(said.startswith("Pareto front of output_tokens_per_s and ttft_p95_s: each") for said in told(records))


def written(folder: Path, records: list[Record]) -> None:
    for record in records:
        run_dir = RunDir(folder / str(record.number))
        run_dir.path.mkdir()
        save(run_dir.record, record)


def test_table_best_files_and_exit_code_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, sweep(*WORSE))
    finding = summary.finish(tmp_path)
    out = capsys.readouterr().out
    assert f"Best: {' '.join(command.program())} page_size=None" in out
    best = json.loads(SweepDir(tmp_path).best.read_text())
    assert (best["verdict"], best["against_baseline"], best["overrides"]) == ("no difference", None, ["page_size=None"])
    assert (SweepDir(tmp_path).best_dir / "overrides.txt").read_text() == "page_size=None\n"
    assert "the baseline is recommended" in (SweepDir(tmp_path).best_dir / "card.md").read_text()
    assert "the baseline is recommended" in SweepDir(tmp_path).report.read_text()
    assert finding.exit_code == 0


def as_seen(record: Record) -> Seen:
    """What a study remembers of a record."""
    told = outcome.of(record)
    return Seen(
        number=record.number,
        state="complete" if told.values else "failed",
        params={"n": record.number},
        values=told.values,
        is_feasible=all(amount <= 0 for amount in told.constraints.values()),
        is_baseline=record.is_baseline and record.repeat_of is None,
        repeat_of=record.repeat_of,
        phase=record.phase,
        place=str(told.attributes["place"]),
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: sweep(*BETTER),
        lambda: sweep(*WORSE),
        lambda: sweep((None, 100.0), (None, 100.0)),
        lambda: [*sweep(*WORSE), *rounds(*BETTER, of=2, begin=9, page_size=64)],
    ],
    ids=["better", "worse", "lost", "the next one"],
)
def test_the_search_and_the_verdict_decide_alike(make: Callable[[], list[Record]]) -> None:
    records = make()
    seen = [as_seen(record) for record in records]
    decided = policy.decision(seen, seen[0], Limits(), is_maximised=True)
    found = verdict.of(records)
    assert (decided.winner or 0) == found.recommended
    assert decided.contests[: len(found.contests)] == found.contests


def as_record(one: Seen) -> Record:
    first = one.number if one.repeat_of is None else one.repeat_of
    make = base if first == 0 else trial
    return make(one.number, one.values[0], repeat_of=one.repeat_of, phase=one.phase)


@pytest.mark.parametrize("gain", [0.0, 0.1])
def test_the_verdict_on_records_is_the_search_s(gain: float) -> None:
    for seed in range(30):
        found = verdict.of([as_record(one) for one in dice.played(seed, gain=gain, noise=0.03)])
        assert (found.is_unfinished, found.recommended) == (False, dice.named(seed, gain=gain, noise=0.03).winner or 0)


def test_an_interrupted_round_is_none() -> None:
    stopped = trial(3, None, repeat_of=1, phase="confirm", status="interrupted")
    found = verdict.of([*sweep(), stopped])
    assert ends(found) == ("once", 1, 0)
    assert found.contests == ()


def test_the_last_level_of_a_ladder_is_said_to_be_the_best_one() -> None:
    said = sentences.of(verdict.of(sweep()))
    assert (
        said[-1]
        == f"D(64,16) x2 was the level with most users, and the best one: more users may bring more. {MORE_USERS}"
    )
    lower = [replace(one, best_level="D(64,16) x1") for one in sweep()]
    assert not any(line.endswith(MORE_USERS) for line in sentences.of(verdict.of(lower)))


def test_how_many_users_there_is_room_for_is_said_beside_the_baseline() -> None:
    def found(record: Record, users: int) -> Record:
        traffic = replace(record.config.traffic, levels="capacity")
        slo = Slo(name="x", ttft_s=1.0, attainment=0.9, max_error_rate=0.1)
        levels = [
            Level(
                scenario="D(64,16)",
                concurrency=tried,
                status="ok",
                metrics=make_metrics(num_requests=1000, slo_attainment=share, meets_slo=share == 1),
            )
            for tried, share in ((users, 1.0), (users + 2, 0.5))
        ]
        config = replace(record.config, traffic=traffic, slo=slo)
        return replace(record, config=config, levels=tuple(levels), best_level=f"D(64,16) x{users}")

    base, best, _ = sweep()
    again = replace(found(best, 36), number=2, repeat_of=best.number, phase="confirm")
    said = sentences.of(verdict.of([found(base, 21), found(best, 37), again]))
    assert (
        "Users at a time that trial 1 has room for, each time it was tried: 37 [37, 39], 36 [36, 38]; "
        "of the baseline: 21 [21, 23]." in said
    )


def test_a_capacity_that_the_limit_of_the_search_gave_is_said_to_be_that() -> None:
    def at_most(record: Record, users: int) -> Record:
        traffic = replace(record.config.traffic, levels="capacity", max_concurrency=users)
        return replace(record, config=replace(record.config, traffic=traffic))

    limited = "D(64,16) x2 is as many users as traffic.max_concurrency allows: raise it."
    assert any(line.startswith(limited) for line in told([at_most(one, 2) for one in sweep()]))
    assert not any(line.startswith(limited) for line in told([at_most(one, 64) for one in sweep()]))
