"""Searches on a real study with our strategy, and what other samplers are told and spared."""

from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from pipeline.core.errors import ConfigError
from pipeline.core.limits import Limits
from pipeline.core.values import Scalar
from pipeline.sweep.search import storages
from pipeline.sweep.search.codecs import Codec
from pipeline.sweep.search.outcome import Outcome
from pipeline.sweep.search.search import Search
from pipeline.sweep.search.space import Choice, Params, Space, Span, only
from pipeline.sweep.search.strategy.sampler import Strategy
from pipeline.sweep.search.study import Job, Study

BASE: Params = {"a": "null", "b": "null"}
SPACE = Space(
    dimensions=(
        Choice(name="a", values=("1", "2", "4", "8", "16", "32")),
        Choice(name="b", values=("null", "x", "y")),
        Span(name="c", low=0.0, high=1.0),
    )
)
ODD = Space(
    dimensions=(Choice(name="a", values=tuple(map(str, range(1, 9)))), Choice(name="b", values=("x", "y", "z")))
)
Made = Callable[..., Search]


def score(job: Job) -> Outcome:
    rank = {"1": 1, "2": 2, "4": 4, "8": 9, "16": 6, "32": 3}.get(str(job.params["a"]), 2)
    return Outcome(values=(rank * (2.0 if job.params["b"] == "y" else 1.0),))


def resolved_to(**knobs: Scalar) -> Outcome:
    return Outcome(values=(1.0,), attributes={"resolved": knobs})


@pytest.fixture
def search(request: pytest.FixtureRequest) -> Iterator[Made]:
    store = storages.in_memory()

    def make(
        sampler: BaseSampler, space: Space = SPACE, *, n_trials: int = 20, baseline: Params | None = None, **more: Any
    ) -> Search:
        study = Study(store, "sweep", space, ["maximize"])
        study.optuna.sampler = sampler
        study.foresee = more.get("foresee", study.foresee)
        return Search(
            study,
            Limits(n_trials=n_trials, confirm=0),
            [baseline] if baseline else [],
            is_maximised=[True],
            in_order=False,
        )

    yield make
    store.storage.remove_session()


def run_all(search: Search, measure: Callable[[Job], Outcome] = score) -> list[Job]:
    done = []
    while job := search.next():
        search.tell(job.number, measure(job))
        done.append(job)
    return done


def test_ours_finds_the_best_and_says_why_it_proposed_each_trial(search: Made) -> None:
    ours = search(Strategy(seed=3), baseline={"a": "null", "b": "null", "c": 0.0})
    jobs = run_all(ours)
    assert {(job.params["a"], job.params["b"]) for job in jobs} >= {("8", "y")}
    reasons = [job.what.reason.by for job in jobs if job.what.reason]
    assert reasons[:6] == ["baseline", *["start"] * 5]
    assert {*reasons[6:]} <= {"gain", "random"}
    assert reasons.count("gain") >= 10
    told = [one.user_attrs["next"]["reason"]["by"] for one in ours.study.optuna.trials]
    assert told == reasons
    assert {one.params["a"] for one in ours.study.optuna.trials[1:]} <= {1, 2, 4, 8, 16, 32}


def test_ours_never_asks_for_what_was_run_or_is_refused(search: Made) -> None:
    allowed = only(lambda one: one["a"] != one["b"] and str(one["a"]) in "2468")
    ours = search(Strategy(seed=1), ODD, n_trials=11, foresee=allowed)
    jobs = run_all(ours)
    assert len({tuple(job.params.values()) for job in jobs}) == len(jobs) == 11  # of 12
    assert len(ours.study.optuna.trials) == 11
    assert all(str(job.params["a"]) in "2468" for job in jobs)


def test_a_space_of_which_most_is_refused_is_run_to_its_end(search: Made) -> None:
    ours = search(Strategy(seed=1), ODD, n_trials=20, foresee=only(lambda one: one["b"] == "z"))
    assert len(run_all(ours)) == 8


def test_a_later_process_proposes_what_the_earlier_one_would_have(search: Made) -> None:
    whole = run_all(search(Strategy(seed=5), n_trials=9))
    again = search(Strategy(seed=5), n_trials=9).study
    twin = Study(storages.in_memory(), "sweep", SPACE, ["maximize"])
    for count in (6, 9):  # 6 are the start; then the model is fitted for the first time
        twin.optuna.sampler = Strategy(seed=5)
        run_all(Search(twin, Limits(n_trials=count, confirm=0), [], is_maximised=[True], in_order=False))
    assert [one.params for one in twin.seen()][:7] == [job.params for job in whole][:7]
    assert len(again.seen()) == 9


def test_a_switch_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.sampler\.random_share=2"):
        Strategy(random_share=2)


def test_without_a_space_ours_says_what_is_missing() -> None:
    study = optuna.create_study(sampler=Strategy())
    with pytest.raises(ConfigError, match="needs hydra/sweeper=tuner"):
        study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("16", "32", "64"), optuna.distributions.IntDistribution(16, 64)),
        (("1", "2", "64"), optuna.distributions.IntDistribution(1, 64, log=True)),
        (("8", "16", "24"), optuna.distributions.IntDistribution(8, 24, step=8)),
        (("0.8", "0.90", "0.95"), optuna.distributions.FloatDistribution(0.8, 0.95)),
        (("null", "16", "32"), optuna.distributions.CategoricalDistribution(("null", "16", "32"))),
        (("1", "1.0"), optuna.distributions.CategoricalDistribution(("1", "1.0"))),
        (("true", "false"), optuna.distributions.CategoricalDistribution(("true", "false"))),
    ],
)
def test_lists_of_numbers_are_ranges_to_optuna(
    values: tuple[str, ...], expected: optuna.distributions.BaseDistribution
) -> None:
    codec = Codec(Choice(name="n", values=values))
    assert codec.distribution == expected
    assert [codec.from_optuna(codec.to_optuna(each)) for each in values] == [*values]


@pytest.mark.parametrize("sampler", [RandomSampler(seed=1), TPESampler(seed=1, n_startup_trials=3)])
def test_other_samplers_propose_what_is_on_the_list(search: Made, sampler: BaseSampler) -> None:
    ours = search(sampler)
    jobs = run_all(ours)
    assert {job.params["a"] for job in jobs} <= {*SPACE.dimensions[0].each()}
    assert {trial.params["a"] for trial in ours.study.optuna.trials} <= {1, 2, 4, 8, 16, 32}
    assert all(job.what.reason and job.what.reason.by in {"sampler", "random"} for job in jobs)


def test_what_the_rules_refuse_is_not_run_whoever_proposes_it(search: Made) -> None:
    ours = search(TPESampler(seed=1), n_trials=10, foresee=only(lambda one: one["b"] == "x"))
    jobs = run_all(ours)
    assert [job.params["b"] for job in jobs] == ["x"] * 10
    refused = [one for one in ours.study.seen() if one.is_answered]
    assert refused
    assert not any(job.number == one.number for job in jobs for one in refused)


def test_a_crash_is_told_to_tpe_as_outside_of_a_constraint(search: Made) -> None:
    kinds = {1: "oom_gpu", 2: "node_failed"}
    ours = search(TPESampler(seed=1), n_trials=4)
    run_all(ours, lambda job: Outcome(values=(), attributes={"failure": kinds.get(job.number, "oom_gpu")}))
    trials = ours.study.optuna.trials
    assert [trial.state.name for trial in trials] == ["PRUNED", "PRUNED", "FAIL", "PRUNED"]
    assert trials[1].constraints == {"crash": 1.0}
    assert all(trial.values is None for trial in trials)  # nothing is made up
    assert {one.state for one in ours.study.seen()} == {"failed"}


def test_a_baseline_beside_the_space_is_told_where_the_engine_put_it(search: Made) -> None:
    ours = search(TPESampler(seed=1), ODD, n_trials=2, baseline=BASE)
    run_all(ours, lambda _: resolved_to(a=4, b="Y"))
    base = ours.study.optuna.trials[0]
    assert (base.state.name, base.params, base.values) == ("COMPLETE", {"a": 4, "b": "y"}, [1.0])
    assert ours.study.seen()[0].params == BASE


def test_a_default_that_lies_nowhere_in_the_space_is_not_put_there(search: Made) -> None:
    ours = search(TPESampler(seed=1), ODD, n_trials=2, baseline=BASE)
    run_all(ours, lambda _: resolved_to(a=99, b="y"))
    assert ours.study.optuna.trials[0].state.name == "FAIL"
