"""A search that is broken off and gone on with proposes what it would have proposed in one go."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.limits import Limits
from pipeline.core.values import Scalar, plain
from pipeline.sweep.search import policy, storages
from pipeline.sweep.search.outcome import Outcome
from pipeline.sweep.search.policy import Seen
from pipeline.sweep.search.search import Search
from pipeline.sweep.search.space import Choice, Foresee, Params, Slow, Space, Span, as_asked, only
from pipeline.sweep.search.strategy.candidates import Candidates
from pipeline.sweep.search.strategy.earlier import Earlier
from pipeline.sweep.search.strategy.propose import Proposer, Switches
from pipeline.sweep.search.strategy.sampler import Strategy
from pipeline.sweep.search.strategy.told import Told
from pipeline.sweep.search.study import NEXT, Direction, Study, opened

BASE: Params = {"a": "null", "b": "null", "c": "null"}
SPACE = Space(
    dimensions=(
        Choice(name="a", values=("1", "2", "4", "8", "16", "32")),
        Choice(name="b", values=("null", "x", "y")),
        Span(name="c", low=1, high=512, is_log=True),
    )
)
TRIALS = 16


def score(one: Params) -> float:
    """Its top is at a=8, b=y, c=64."""
    a, c = (7.0 if one[name] == "null" else math.log2(float(one[name])) for name in "ac")
    return math.exp(-((a - 3) ** 2 + (c - 6) ** 2) / 20) * (2.0 if one["b"] == "y" else 1.0)


def is_over(one: Params) -> bool:
    return one["a"] in {"16", "32"} and one["c"] != "null" and float(one["c"]) > 40


def told(one: Params, *values: float) -> Told:
    return Told(params=one, values=values or (score(one),))


OLD = [told({"a": a, "b": b, "c": c}) for a in ("1", "8", "32") for b in ("null", "y") for c in (8, 64)]


@dataclass
class Case:
    """What is searched."""

    measure: Callable[[Params], Outcome] = lambda one: Outcome(values=(score(one),))
    directions: Sequence[Direction] = ("maximize",)
    foresee: Callable[[], Foresee] = lambda: as_asked
    earlier: Sequence[Earlier] = ()


OOM = Outcome(values=(), attributes={"failure": "oom_gpu"})
RESOLVED: dict[str, Scalar] = {"a": 4, "b": "x", "c": 32}
CASES = {
    "scores": Case(),
    "a default that is known": Case(lambda one: Outcome(values=(score(one),), attributes={"resolved": RESOLVED})),
    "failures": Case(lambda one: OOM if is_over(one) else Outcome(values=(score(one),))),
    "rules": Case(foresee=lambda: only(lambda one: not is_over(one))),
    "slow rules": Case(foresee=lambda: Slow(only(lambda one: one["a"] not in {"1", "2", "16"}))),
    "two objectives": Case(
        lambda one: Outcome(values=(score(one), 1 + float(one["b"] == "y"))), directions=("maximize", "minimize")
    ),
    "an earlier sweep": Case(earlier=[Earlier(name="old", trials=tuple(OLD), baseline=OLD[0])]),
}


def run(study: Study, case: Case, count: int) -> None:
    """What one process does, up to so many trials."""
    strategy = Strategy(seed=7, start=3, candidates=60)
    strategy.learn(case.earlier)
    study.optuna.sampler, study.foresee = strategy, case.foresee()
    is_maximised = [each == "maximize" for each in case.directions]
    search = Search(study, Limits(n_trials=count, confirm=0), [BASE], is_maximised=is_maximised, in_order=False)
    while job := search.next():
        search.tell(job.number, case.measure(job.params))


def in_parts(case: Case, counts: Sequence[int], between: Callable[[Study], object] | None = None) -> list[Seen]:
    """The trials of a search by one process after the other. `between`: what the one before does before it is gone."""
    store = storages.in_memory()
    study = Study(store, "sweep", SPACE, case.directions)
    for at, count in enumerate(counts):
        if at and between:
            between(study)
        study = Study(store, "sweep", SPACE, case.directions)
        run(study, case, count)
    return study.seen()


def params_of(seen: Sequence[Seen]) -> list[Params]:
    return [one.params for one in seen if not one.is_answered]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_search_in_parts_has_the_trials_of_one_in_one_go(case: Case) -> None:
    whole = params_of(in_parts(case, [TRIALS]))
    assert len(whole) == TRIALS
    assert params_of(in_parts(case, range(1, TRIALS + 1))) == whole


def test_a_study_on_disk_holds_all_that_proposals_hang_on(tmp_path: Path) -> None:
    for count in (6, 8, 10):
        study = opened(f"sqlite:///{tmp_path}/study.db", "sweep", SPACE, ["maximize"], f"test-{tmp_path.name}")
        run(study, CASES["failures"], count)
        study.close()
    assert params_of(study.seen()) == params_of(in_parts(CASES["failures"], [10]))


def test_a_process_that_ends_while_a_proposal_is_made_costs_no_trial() -> None:
    seen = in_parts(Case(), [9, TRIALS], between=lambda study: study.optuna.ask())  # nobody has heard of that one
    assert params_of(seen) == params_of(in_parts(Case(), [TRIALS]))


def test_a_process_that_ends_before_its_trial_begins_does_not_begin_it_twice() -> None:
    store = storages.in_memory()
    study = Study(store, "sweep", SPACE, ["maximize"])
    study.optuna.enqueue_trial({}, user_attrs={NEXT: plain(policy.first([], [BASE]))})
    run(Study(store, "sweep", SPACE, ["maximize"]), Case(), TRIALS)
    seen = study.seen()
    assert [one.number for one in seen] == [*range(TRIALS)]
    assert params_of(seen) == params_of(in_parts(Case(), [TRIALS]))


@pytest.mark.parametrize("earlier", [(), CASES["an earlier sweep"].earlier], ids=["alone", "an earlier sweep"])
def test_a_trial_that_ends_after_later_ones_is_learned_in_its_place(earlier: Sequence[Earlier]) -> None:
    def proposer() -> Proposer:
        return Proposer(Candidates(SPACE), Switches(random_share=0.0), [True], earlier)

    def dice(number: int) -> np.random.Generator:
        return np.random.default_rng(number)

    ours = proposer()
    seen = [told(one) for one in Candidates(SPACE).random(18, dice(0))]
    slow = Told(params=seen[7].params, is_running=True)
    for number in range(10, 18):
        ours.next([*seen[:7], slow, *seen[8:number]], dice(number))
    assert ours.next(seen, dice(18)) == proposer().next(seen, dice(18))


@pytest.mark.parametrize(("is_allowed", "looks"), [(True, 50), (False, 250)])
def test_slow_rules_are_asked_about_few_candidates(is_allowed: bool, looks: int) -> None:
    asked: list[Params] = []

    def look(one: Params) -> bool:
        asked.append(one)
        return is_allowed

    some = Candidates(Space(dimensions=(Span(name="n", low=1, high=10**6),)), Slow(only(look)))
    found = some.random(300, np.random.default_rng(0))
    assert len(asked) == looks
    assert len(found) == 300  # those that nobody has looked at are among them
    some.neighbours(found[:5], 50, np.random.default_rng(0))
    assert len(asked) == looks
