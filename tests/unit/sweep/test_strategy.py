"""What the strategy proposes, on made-up landscapes whose best is known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.reasons import Reason
from pipeline.sweep.search.space import Choice, Params, Space, Span, as_asked, number_of, only
from pipeline.sweep.search.strategy import acquisition, crashes, surrogate, targets
from pipeline.sweep.search.strategy.candidates import Candidates
from pipeline.sweep.search.strategy.encoding import Encoding, agreed_of, resolved_of
from pipeline.sweep.search.strategy.propose import Proposer, Switches
from pipeline.sweep.search.strategy.sampler import Strategy
from pipeline.sweep.search.strategy.surrogate import JITTER, Kernel
from pipeline.sweep.search.strategy.told import Told

PAGES = Choice(name="page_size", values=("null", "16", "32", "64"))
BACKENDS = Choice(name="backend", values=("fa3", "triton", "flashinfer"))
SLOTS = Span(name="slots", low=1, high=256, is_log=True)
SPACE = Space(dimensions=(PAGES, BACKENDS, SLOTS))
GRID = Space(dimensions=tuple(Choice(name=name, values=tuple(map(str, range(8)))) for name in "abc"))


def dice(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def told(params: Params, *values: float, **more: object) -> Told:
    return replace(Told(params=params, values=values), **more)  # type: ignore[arg-type]


def params(page: str = "16", backend: str = "fa3", slots: int = 16) -> Params:
    return {"page_size": page, "backend": backend, "slots": slots}


def test_numbers_are_encoded_by_their_rank_and_words_by_columns() -> None:
    rows = Encoding(SPACE, {"page_size": 32}).rows([params("16"), params("null"), params("64", "triton", 256)])
    assert rows.tolist() == [[-0.5, 1, 0, 0, 0.0], [0.0, 1, 0, 0, 0.0], [0.5, 0, 1, 0, 0.5]]


def test_a_default_that_nobody_knows_has_a_column_of_its_own() -> None:
    rows = Encoding(SPACE, {}).rows([params("null"), params("32")])
    assert rows[:, :2].tolist() == [[0.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize(("default", "place"), [(8, -1.0), (48, 0.25), (16, -0.5), (1024, 1.0)])
def test_a_default_beside_the_list_lies_where_its_number_lies(default: int, place: float) -> None:
    assert Encoding(SPACE, {"page_size": default}).rows([params("null")])[0, 0] == pytest.approx(place)


def test_a_default_is_what_the_trials_say_that_left_it() -> None:
    seen = [told(params("16")), told(params("null"), resolved={"page_size": 32})]
    assert resolved_of(seen, SPACE) == agreed_of(seen, SPACE) == {"page_size": 32}
    seen += [told(params("null", "triton"), resolved={"page_size": 64})]
    assert (resolved_of(seen, SPACE), agreed_of(seen, SPACE)) == ({"page_size": 32}, {})


def test_refused_and_twin_combinations_are_no_candidates() -> None:
    free = Candidates(SPACE, only(lambda one: one["backend"] != "fa3"))
    free.note([params("32", "triton", 8)], {"page_size": 32})
    assert not free.is_free(params())
    assert not free.is_free(params("null", "triton", 8))  # the same by what the engine makes of null
    assert free.is_free(params("64", "triton", 8))
    near = free.neighbours([params("32", "triton", 8)], 20, dice())
    assert len(near) > 5
    assert all(map(free.is_free, near))
    assert params("null", "triton", 8) not in near
    assert all(one["backend"] != "fa3" for one in free.random(50, dice()))


def test_what_the_rules_rewrite_is_a_twin_of_what_it_becomes() -> None:
    free = Candidates(SPACE, lambda one: {**one, "page_size": "64", "eager": "true"})
    free.note([params("16")], {})
    assert not free.is_free(params("32"))
    assert free.is_free(params("32", slots=17))


def test_the_neighbours_of_a_baseline_beside_the_space_are_inside() -> None:
    space = Space(dimensions=(replace(PAGES, values=("16", "32")), BACKENDS, SLOTS))
    free = Candidates(space, as_asked)
    free.note([], {"page_size": 20, "slots": 3})
    near = free.neighbours([{"page_size": "null", "backend": "null", "slots": "null"}], 10, dice())
    assert near
    assert all(space.holds(one) for one in near)


def test_a_small_space_is_exhausted_to_the_last_combination() -> None:
    free = Candidates(GRID, only(lambda one: one["a"] == "3"))
    seen: list[Params] = []
    while found := free.any(dice(len(seen))):
        seen.append(found)
        free.note(seen, {})
    assert len(seen) == 64


def test_the_first_trials_are_random_and_say_so() -> None:
    ours = Proposer(Candidates(GRID), Switches(start=3, random_share=0.0), [True])
    seen: list[Told] = []
    reasons: list[Reason] = []
    while len(seen) < 6 and (found := ours.next(seen, dice(len(seen)))):
        seen.append(told(found.params, 1.0 + int(str(found.params["a"]))))
        reasons.append(found.reason)
    assert [reason.by for reason in reasons] == [*["start"] * 4, "gain", "gain"]
    assert reasons[-1].words.startswith("expected ")
    assert reasons[-1].uncertainty


@pytest.mark.parametrize("switches", [Switches(surrogate=False), Switches(random_share=1.0)], ids=["off", "all"])
def test_without_a_surrogate_all_is_random(switches: Switches) -> None:
    seen = [told(one, 1.0) for one in Candidates(GRID).random(9, dice())]
    found = Proposer(Candidates(GRID), switches, [True]).next(seen, dice())
    assert found
    assert found.reason.by == "random"


def best_of(measure: Callable[[Params], Told], is_maximised: Sequence[bool] = (True,), trials: int = 25) -> list[Told]:
    """The trials of a search."""
    ours = Proposer(Candidates(GRID), Switches(), is_maximised)
    seen: list[Told] = []
    for number in range(trials):
        found = ours.next(seen, dice(number))
        assert found
        seen.append(measure(found.params))
    return seen


def hill(one: Params) -> float:
    """Its top is 1, at a=6, b=2, c=5."""
    away = [int(str(one[name])) - top for name, top in zip("abc", (6, 2, 5), strict=True)]
    return math.exp(-sum(each * each for each in away) / 20)


def test_a_hill_is_climbed() -> None:
    assert max(one.values[0] for one in best_of(lambda one: told(one, hill(one)))) > 0.95


def test_a_valley_is_descended() -> None:
    found = best_of(lambda one: told(one, 1 / hill(one)), is_maximised=[False])
    assert min(one.values[0] for one in found) < 1.06


def test_what_crashes_is_learned_and_avoided() -> None:
    def measure(one: Params) -> Told:
        is_over = int(str(one["a"])) >= 6  # the top is beyond the edge
        return told(one, failure="oom_gpu") if is_over else told(one, hill(one))

    found = best_of(measure, trials=30)
    late = [one.is_crash for one in found[10:]]
    assert sum(late) <= 6  # 18 of 20 without the model, which goes up the hill
    assert max(one.values[0] for one in found if one.values) > 0.9


@pytest.mark.parametrize(("learns", "share"), [(True, 0.1), (False, 0.5)])
def test_a_random_trial_is_rather_none_that_crashes(learns: bool, share: float) -> None:
    seen = [
        told(one, **({"failure": "oom_gpu"} if str(one["a"]) > "3" else {}))
        for one in Candidates(GRID).random(40, dice())
    ]
    seen = [one if one.failure else replace(one, values=(1.0,)) for one in seen]
    ours = Proposer(Candidates(GRID), Switches(random_share=1.0, crash_model=learns), [True])
    found = [one.params["a"] for seed in range(60) if (one := ours.next(seen, dice(seed)))]
    assert len(found) == 60
    assert np.mean([str(a) > "3" for a in found]) == pytest.approx(share, abs=0.15 if not learns else 0.1)


def test_failures_by_the_surroundings_teach_nothing() -> None:
    assert [told(params(), failure=kind).is_crash for kind in ("oom_gpu", "node_failed", None)] == [True, False, False]
    assert not told(params(), failure="oom_gpu", is_running=True).is_crash


def test_two_objectives_are_searched_along_their_front() -> None:
    found = best_of(lambda one: told(one, 1.0 + int(str(one["a"])), 1.0 + int(str(one["b"]))), [True, False], 30)
    assert max(one.values[0] for one in found) == 8
    assert min(one.values[1] for one in found) == 1
    assert any(one.values == (8.0, 1.0) for one in found)


def test_the_process_predicts_what_scikit_learns_own_does() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern

    rows, y, at = dice(1).random((30, 3)) - 0.5, dice(2).standard_normal(30), dice(3).random((5, 3)) - 0.5
    kernel = surrogate.fitted(Kernel.usual(3), rows, y)
    mean, sd = surrogate.posterior(kernel, rows, y).at(at)
    theirs = ConstantKernel(kernel.main) * DotProduct(0, sigma_0_bounds="fixed")
    theirs += ConstantKernel(kernel.near) * Matern(kernel.lengths, nu=2.5)
    model = GaussianProcessRegressor(theirs, alpha=kernel.noise + JITTER, optimizer=None)
    expected, spread = model.fit(rows, (y - y.mean()) / y.std()).predict(at, return_std=True)
    assert mean == pytest.approx(expected * y.std() + y.mean())
    assert sd == pytest.approx(spread * y.std())


def test_the_process_learns_which_knob_matters() -> None:
    rows = dice(1).random((40, 3)) - 0.5
    y = np.sin(6 * rows[:, 1]) + 0.02 * dice(2).standard_normal(40)
    first, second, third = surrogate.fitted(Kernel.usual(3), rows, y).lengths
    assert second < min(first, third) / 2


def test_running_trials_push_the_next_proposal_away() -> None:
    seen = [told(one, hill(one)) for one in Candidates(GRID).random(20, dice())]
    ours = Proposer(Candidates(GRID), Switches(random_share=0.0), [True])
    picked = []
    for _ in range(4):
        found = ours.next(seen, dice())
        assert found
        picked.append(tuple(found.params.values()))
        seen.append(told(found.params, is_running=True))
    assert len({*picked}) == 4


def test_a_trial_outside_the_slo_counts_by_how_far_it_is_outside() -> None:
    seen = [told(params(), 10.0), told(params(), 0.0, is_feasible=False, outside=20.0)]
    aim = targets.target(seen, [True], [1.0])
    assert aim.y == pytest.approx([math.log(10), math.log(20)])
    assert aim.best == pytest.approx(math.log(10))  # of those inside


def test_zero_is_as_bad_as_anything_far_below() -> None:
    seen = [told(params(), score) for score in (10.0, 11.0, 12.0, 0.0)]
    y = targets.target(seen, [True], [1.0]).y
    assert math.log(8) < y[3] < math.log(10)


def test_gain_needs_a_chance_to_be_better() -> None:
    gain = acquisition.expected_improvement(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]), 0.5)
    assert gain == pytest.approx([0.0, 0.198, 0.5], abs=0.001)
    assert acquisition.value_of(gain, np.array([0.0, 1.0, 0.75]), 1.5)[1:] == pytest.approx([0.0, 0.0625], abs=0.001)
    rows = acquisition.ranked(np.array([9.0, 0.0, 0.0, 1.0]), np.array([0.6, 0.1, 0.1, 0.5]), np.arange(4.0))
    assert rows.tolist() == [3, 2, 1, 0]


def test_a_product_that_is_too_large_is_learned_from_few_crashes() -> None:
    dice = np.random.default_rng(1)
    grid = np.stack([*map(np.ravel, np.meshgrid(*[np.linspace(-0.5, 0.5, 8)] * 2))], axis=1)
    rows = np.hstack([grid, dice.random((len(grid), 2)) - 0.5])  # and two columns that do not matter
    crashed = grid.sum(axis=1) > 0.4  # knobs that grow by factors: their product is over a limit
    shown = dice.permutation(len(rows))[:40]
    risk = crashes.learned(rows[shown], [*crashed[shown]])(rows)
    assert np.mean((risk > 0.5) == crashed) > 0.9


@pytest.mark.parametrize(("crashed", "risks"), [([False] * 4, [0, 0]), ([True] * 4, [1, 1])], ids=["none", "all"])
def test_without_both_kinds_nothing_is_fitted(crashed: list[bool], risks: list[float]) -> None:
    rows = Encoding(GRID, {}).rows(Candidates(GRID).random(4, dice()))
    assert crashes.learned(rows, crashed)(rows[:2]).tolist() == risks


def test_a_range_is_searched_on_its_steps() -> None:
    steps = Span(name="n", low=8, high=64, step=8)
    space = Space(dimensions=(steps, Span(name="x", low=0.5, high=0.9), SLOTS))
    free = Candidates(space)
    drawn = [*free.random(60, dice()), *free.neighbours(free.random(3, dice()), 10, dice())]
    assert {number_of(one["n"]) for one in drawn} == {*range(8, 65, 8)}
    assert all(space.holds(one) and isinstance(one["slots"], int) for one in drawn)


def test_the_same_seed_and_results_give_the_same_proposals() -> None:
    first, second = ([one.params for one in best_of(lambda one: told(one, hill(one)), trials=12)] for _ in range(2))
    assert first == second


def test_an_endless_crash_power_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.sampler\.crash_power=inf: Input should be a finite number"):
        Strategy(crash_power=math.inf)


@pytest.mark.parametrize("seed", [-1, 1.5, "abc", True])
def test_a_seed_that_is_none_is_refused_at_once(seed: Any) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.sampler\.seed=.*: expected a whole number"):
        Strategy(seed=seed)
