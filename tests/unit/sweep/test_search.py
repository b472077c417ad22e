"""The search on a real study in SQLite: what measuring would give is a function here."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.limits import Limits
from pipeline.core.schema import Knob
from pipeline.core.values import to_json
from pipeline.machine import identity
from pipeline.sweep.search import outcome
from pipeline.sweep.search.outcome import Outcome
from pipeline.sweep.search.search import Search
from pipeline.sweep.search.space import Choice, Params, Space, Span
from pipeline.sweep.search.study import Job, Study, opened
from support.records import make_config, make_levels, make_metrics, make_record

BASE: Params = {"n": "null"}
LETTERS = Space(dimensions=(Choice(name="n", values=("null", "1", "2", "3")),))
LINE = Space(dimensions=(Span(name="n", low=0.0, high=1.0),))
Open = Callable[..., Search]


@pytest.fixture
def search(tmp_path: Path) -> Iterator[Open]:
    """Opens the study of this test, as one process would."""
    opened: list[Study] = []

    def make(
        space: Space = LETTERS, *, baseline: Params | None = BASE, in_order: bool = False, **limits: Any
    ) -> Search:
        study = open_study(tmp_path, space)
        opened.append(study)
        return Search(
            study,
            Limits(**{"confirm": 0, **limits}),
            [baseline] if baseline else [],
            is_maximised=[True],
            in_order=in_order,
        )

    yield make
    for study in opened:
        study.close()


def open_study(folder: Path, space: Space, directions: tuple[Any, ...] = ("maximize",)) -> Study:
    study = opened(f"sqlite:///{folder}/study.db", "sweep", space, directions, f"test-{folder.name}")
    study.optuna.sampler = optuna.samplers.TPESampler(seed=1)
    return study


def score(job: Job) -> Outcome:
    pick = job.params["n"]
    return Outcome(values=(0.5 if pick == "null" else float(pick),))


def run_all(search: Search, measure: Callable[[Job], Outcome] = score) -> list[Job]:
    done = []
    while job := search.next() or search.confirmation():
        search.tell(job.number, measure(job))
        done.append(job)
    return done


def picks(jobs: list[Job]) -> list[Any]:
    return [job.params["n"] for job in jobs]


def test_a_space_that_fits_is_run_in_order_baseline_first(search: Open) -> None:
    assert picks(run_all(search(n_trials=10))) == ["null", "1", "2", "3"]


def test_the_baseline_is_trial_0_even_outside_of_the_space(search: Open) -> None:
    ours = search(Space(dimensions=(Choice(name="n", values=("2", "1")),)), n_trials=10)
    jobs = run_all(ours)
    assert [(job.number, job.params["n"]) for job in jobs] == [(0, "null"), (1, "2"), (2, "1")]
    assert jobs[0].what.is_baseline
    assert [one.values for one in ours.study.seen()] == [(0.5,), (2.0,), (1.0,)]
    outside, *inside = ours.study.optuna.trials
    assert (outside.params, outside.state.name) == ({}, "FAIL")  # a sampler can make nothing of it
    assert [trial.value for trial in inside] == [2.0, 1.0]


def test_a_sampler_searches_a_range_and_no_point_twice(search: Open) -> None:
    jobs = run_all(search(LINE, baseline=None, n_trials=25))
    assert len({*picks(jobs)}) == len(jobs) == 25
    assert max(picks(jobs)) > 0.9


def test_what_the_sampler_proposes_again_is_not_run_again(search: Open) -> None:
    wide = Space(dimensions=tuple(Choice(name=name, values=("null", "1", "2")) for name in "ab"))
    ours = search(wide, baseline={"a": "null", "b": "null"}, n_trials=8)
    jobs = run_all(ours, lambda job: Outcome(values=(float(job.params["a"] == "2"),)))
    assert len({(job.params["a"], job.params["b"]) for job in jobs}) == len(jobs) == 8
    answered = [trial for trial in ours.study.optuna.trials if trial.user_attrs["answered"]]
    assert all(trial.user_attrs["same_as"] < trial.number for trial in answered)


def test_a_failed_trial_is_told_as_failed_and_takes_a_place(search: Open) -> None:
    ours = search(n_trials=2)
    jobs = run_all(ours, lambda job: score(job) if job.number else Outcome(values=()))
    assert picks(jobs) == ["null", "1"] or len(jobs) == 2
    assert ours.study.optuna.trials[0].state.name == "FAIL"


def test_answered_trials_do_not_count(search: Open) -> None:
    refused = lambda job: replace(score(job), values=(), is_answered=job.params["n"] == "1")  # noqa: E731
    assert len(run_all(search(in_order=True, n_trials=3), refused)) == 4


def test_repeats_and_confirmation_are_trials_of_their_own(search: Open) -> None:
    jobs = run_all(search(n_trials=10, repeats=2, confirm=2))
    told = [(job.params["n"], job.what.repeat_of, job.what.phase) for job in jobs]
    assert sorted(told[:8], key=str) == sorted(
        [(n, again, "search") for number, n in zip((0, 2, 4, 6), LETTERS.dimensions[0].each(), strict=True)
         for again in (None, number)], key=str,
    )  # fmt: skip
    assert told[8:] == [("3", 6, "confirm"), ("null", 0, "confirm"), ("null", 0, "confirm"), ("3", 6, "confirm")]
    assert [job.number for job in jobs] == [*range(12)]


def test_gpu_hours_are_counted_over_all_trials(search: Open) -> None:
    jobs = run_all(search(gpu_hours=1.0), lambda job: replace(score(job), gpu_hours=0.5))
    assert len(jobs) == 2


def test_a_part_of_the_gpu_hours_is_kept_for_the_confirmation(search: Open) -> None:
    jobs = run_all(search(gpu_hours=4.2, confirm=None), lambda job: replace(score(job), gpu_hours=1.0))
    assert [job.what.phase for job in jobs] == ["search"] * 3 + ["confirm"] * 2  # else all four of the search
    alone = search(gpu_hours=10.0, confirm=None, baseline=None)
    assert alone.share == 1.0  # nothing can be confirmed without a baseline


def test_a_study_knows_where_and_at_which_levels_was_measured(search: Open) -> None:
    ours = search(n_trials=10)
    attributes: dict[str, Any] = {"place": "node-1 0,1", "points": [[1.0, 2.0]], "same_as": 0}
    run_all(ours, lambda job: replace(score(job), attributes=attributes))
    (seen,) = {(one.place, one.points, one.same_as) for one in ours.study.seen()}
    assert seen == ("node-1 0,1", ((1.0, 2.0),), 0)


def test_a_later_process_goes_on_where_the_earlier_one_stopped(search: Open) -> None:
    first = search(n_trials=10)
    for _ in range(2):
        job = first.next()
        assert job
        first.tell(job.number, score(job))
    assert picks(run_all(search(n_trials=10))) == ["2", "3"]


def test_a_trial_whose_process_is_gone_is_run_again_under_its_number(search: Open) -> None:
    gone = search(n_trials=10)
    assert gone.next()
    lost = gone.next()
    assert lost
    for trial in gone.study.running.values():
        trial.set_user_attr("owner", to_json(replace(identity.of(), start_ticks=1)))
    again = search(n_trials=10).next()
    assert again
    assert (again.number, again.params, again.what.is_baseline, again.is_again) == (0, {"n": "null"}, True, True)
    jobs = run_all(search(n_trials=10))
    assert (lost.number, lost.params) in [(job.number, job.params) for job in jobs]
    assert picks(jobs) == ["1", "2", "3"]  # trial 0 is run by one that lives


def test_a_trial_of_another_machine_is_left_alone_until_it_is_silent(search: Open) -> None:
    there = search(n_trials=10)
    assert there.next()
    far = replace(identity.of(), host="elsewhere")
    there.study.running[0].set_user_attr("owner", to_json(far))
    here = search(n_trials=10)
    here.study.me = to_json(far)
    here.study.beat()
    here.study.me = to_json(identity.of())
    assert here.study.others()
    assert here.next().number == 1  # type: ignore[union-attr]
    here.study.optuna.set_user_attr(f"alive elsewhere {far.pid}", 0.0)
    assert here.next().number == 0  # type: ignore[union-attr]


def test_the_confirmation_waits_for_others(search: Open) -> None:
    other = search(n_trials=2, confirm=1)
    assert other.next()
    ours = search(n_trials=2, confirm=1)
    job = ours.next()
    assert job
    ours.tell(job.number, score(job))
    assert ours.next() is None
    assert ours.confirmation() is None
    other.tell(0, Outcome(values=(0.5,)))
    assert ours.confirmation() is not None


def test_a_search_for_something_else_is_refused(search: Open, tmp_path: Path) -> None:
    search()
    with pytest.raises(ConfigError, match=r"It was started with .* where this command has"):
        open_study(tmp_path, LINE)


def test_a_journal_keeps_a_study_as_well(tmp_path: Path) -> None:
    for expected in (["null", "1", "2", "3"], []):
        study = opened(str(tmp_path / "study.log"), "sweep", LETTERS, ["maximize"], f"test-{tmp_path.name}")
        assert picks(run_all(Search(study, Limits(confirm=0), [BASE], is_maximised=[True], in_order=True))) == expected


def test_a_record_tells_every_metric_and_by_how_much_it_misses_the_slo() -> None:
    slo = {"name": "tight", "attainment": 0.9, "max_error_rate": 0.1, "ttft_s": 0.1, "limits": {"tpot_p95_s": 0.1}}
    seen = make_metrics(slo_attainment=0.6, goodput_requests_per_s=2.0, meets_slo=False)
    record = make_record(
        config=make_config(slo=slo),
        levels=(replace(make_levels()[0], metrics=seen),),
        objective={"output_tokens_per_s": 0.0},
    )
    told = outcome.of(record)
    assert told.values == (0.0,)
    assert told.constraints == {
        "attainment": pytest.approx(0.3),
        "tpot_p95_s": pytest.approx(2.5),
        "error_rate": pytest.approx(-0.1),
    }
    assert told.attributes["ttft_p95_s"] == 0.35
    assert told.attributes["requests_per_s"] == seen.requests_per_s


def test_a_latency_outside_the_slo_is_told_as_measured() -> None:
    slo = {"name": "tight", "attainment": 0.9, "max_error_rate": 0.1, "ttft_s": 0.1}
    record = make_record(
        config=make_config(slo=slo, objective=["ttft_p95_s"]),
        levels=(replace(make_levels()[0], metrics=make_metrics(slo_attainment=0.6, meets_slo=False)),),
        objective=None,
        status="failed",
    )
    assert outcome.of(record).values == (0.35,)


@pytest.mark.parametrize(
    ("attainment", "limits", "ratio"),
    [(0.6, {}, 1.5), (0.6, {"tpot_p95_s": 0.1}, 3.5), (0.95, {}, None)],
    ids=["attainment", "a limit that is missed by more", "inside"],
)
def test_outside_the_slo_a_model_is_told_what_it_would_deliver_and_how_far_off_it_is(
    attainment: float, limits: dict[str, float], ratio: float | None
) -> None:
    slo = {"name": "tight", "attainment": 0.9, "max_error_rate": 0.1, "ttft_s": 0.1, "limits": limits}
    seen = make_metrics(slo_attainment=attainment, goodput_requests_per_s=2.0, meets_slo=ratio is None)
    config = make_config(slo=slo, objective=["goodput_requests_per_s"])
    record = make_record(config=config, levels=(replace(make_levels()[0], metrics=seen),), objective=None)
    expected = None if ratio is None else pytest.approx(seen.requests_per_s / ratio**0.7)
    assert outcome.of(record).attributes["outside"] == expected


def test_a_record_tells_what_the_engine_made_of_knobs_that_were_left_to_it() -> None:
    knob = Knob(kind="int", flag="--n", help="", setting="server.n")
    runtime = replace(make_config().runtime, knobs={"n": knob, "m": knob})
    record = make_record(config=replace(make_config(), runtime=runtime, knobs={"n": None, "m": 7}))
    told = outcome.of(replace(record, settings={"server": {"n": 7}}))
    assert told.attributes["resolved"] == {"n": 7}


def test_constraints_reach_the_study(search: Open) -> None:
    ours = search(n_trials=2)
    run_all(ours, lambda job: replace(score(job), constraints={"attainment": -0.1 if job.number else 0.2}))
    assert [one.is_feasible for one in ours.study.seen()] == [False, True]
    assert ours.study.optuna.trials[0].constraints == {"attainment": 0.2}
