"""What a search makes of earlier sweeps, on made-up landscapes whose best is known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core.reasons import Reason
from pipeline.sweep.search.space import Choice, Params, Space, Span
from pipeline.sweep.search.strategy.candidates import Candidates
from pipeline.sweep.search.strategy.earlier import MOST, Earlier, Prior
from pipeline.sweep.search.strategy.leaning import Leaning
from pipeline.sweep.search.strategy.propose import FIRST, Proposer, Switches
from pipeline.sweep.search.strategy.told import Told

EIGHT = tuple(map(str, range(8)))
GRID = Space(dimensions=tuple(Choice(name=name, values=EIGHT) for name in "abc"))
Measure = Callable[[Params], float]


def dice(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def hill(top: tuple[int, int, int], scale: float = 1.0) -> Measure:
    def measure(one: Params) -> float:
        away = [int(str(one[name])) - at for name, at in zip("abc", top, strict=True)]
        return scale * math.exp(-sum(each * each for each in away) / 8)

    return measure


def logs(some: Sequence[Told]) -> NDArray[np.float64]:
    return np.log([one.values[0] for one in some])


def earlier(measure: Measure, count: int = 40, *, is_maximised: bool = True, name: str = "old") -> Earlier:
    """A sweep of random combinations; the first is its baseline."""
    some = Candidates(GRID).random(count, dice(99))
    trials = tuple(Told(params=one, values=(measure(one),)) for one in some)
    return Earlier(name=name, trials=trials, baseline=trials[0], is_maximised=is_maximised)


def searched(measure: Measure, known: Sequence[Earlier] = (), trials: int = 20, seed: int = 0) -> list[Told]:
    return searched_with(measure, known, trials, seed)[0]


def searched_with(
    measure: Measure, known: Sequence[Earlier], trials: int, seed: int = 0
) -> tuple[list[Told], Proposer, list[Reason]]:
    ours = Proposer(Candidates(GRID), Switches(random_share=0), [True], known)
    base: Params = dict.fromkeys("abc", "0")
    seen, reasons = [Told(params=base, values=(measure(base),))], []
    for number in range(1, trials):
        found = ours.next(seen, dice(1000 * seed + number))
        assert found
        seen.append(Told(params=found.params, values=(measure(found.params),)))
        reasons.append(found.reason)
    return seen, ours, reasons


def needed(seen: Sequence[Told]) -> int:
    """How many trials it took to come within 5% of the best."""
    return next((at for at, one in enumerate(seen) if one.values[0] >= 0.95), len(seen))


def test_a_related_sweep_saves_trials() -> None:
    aim, old = hill((6, 2, 5)), earlier(hill((6, 3, 5), scale=40.0))
    cold = [needed(searched(aim, trials=30, seed=seed)) for seed in range(3)]
    taught = [needed(searched(aim, [old], seed=seed)) for seed in range(3)]
    assert np.mean(taught) <= 0.6 * np.mean(cold)


def test_a_misleading_sweep_loses_its_weight_and_the_best_is_found_all_the_same() -> None:
    wrong = earlier(lambda one: 1 / hill((6, 2, 5))(one))
    seen, ours, reasons = searched_with(hill((6, 2, 5)), [wrong], trials=30)
    assert needed(seen) < 30
    assert ours.leaning
    assert ours.leaning.shares[0] < 0.05
    assert reasons[-1].earlier is not None
    assert reasons[-1].earlier < 0.2


def test_of_two_sweeps_the_one_that_holds_has_the_weight() -> None:
    right, wrong = earlier(hill((6, 3, 5))), earlier(hill((0, 7, 0)), name="other")
    _, ours, _ = searched_with(hill((6, 2, 5)), [wrong, right], trials=16)
    assert ours.leaning
    shares = ours.leaning.shares
    assert shares[1] > 0.3
    assert shares[0] < 0.1


def test_without_earlier_sweeps_nothing_changes() -> None:
    aim = hill((6, 2, 5))
    ours = Proposer(Candidates(GRID), Switches(), [True])
    same = Proposer(Candidates(GRID), Switches(), [True], ())
    seen = [Told(params=one, values=(aim(one),)) for one in Candidates(GRID).random(12, dice(3))]
    for number in range(4):
        assert ours.next(seen, dice(number)) == same.next(seen, dice(number))
    assert ours.leaning is None


def test_a_reason_says_how_much_of_it_earlier_sweeps_say() -> None:
    _, _, reasons = searched_with(hill((6, 2, 5)), [earlier(hill((6, 3, 5)))], trials=8)
    assert [reason.by for reason in reasons] == [*["gain"] * FIRST, *["start"] * (5 - FIRST), "gain", "gain"]
    assert reasons[0].earlier == 1.0
    assert reasons[0].words.endswith("100% of it by earlier sweeps")
    assert "earlier:1.0" in reasons[0].override


def test_what_was_measured_here_beats_what_was_measured_there() -> None:
    prior = Prior([earlier(hill((6, 3, 5)))], GRID)
    prior.know({})
    some = Candidates(GRID).random(20, dice(5))
    seen = [Told(params=one, values=(hill((1, 1, 1))(one),)) for one in some]  # another top
    rows = np.array([[int(str(one[name])) / 7 - 0.5 for name in "abc"] for one in some])
    posterior, expected = Leaning(prior).fit(rows, seen, logs)
    mean, sd = posterior.at(rows)
    assert mean + expected(some) == pytest.approx(logs(seen), abs=0.25)
    assert sd.max() < 0.5 * np.std(logs(seen))


def test_a_sweep_that_minimised_is_turned_round() -> None:
    prior = Prior([earlier(lambda one: 1 / hill((6, 2, 5))(one), is_maximised=False)], GRID)
    prior.know({})
    top, bottom = prior.of([dict(zip("abc", "625", strict=True)), dict(zip("abc", "070", strict=True))])[:, 0]
    assert top > bottom


def test_knobs_that_only_one_sweep_has_are_where_that_sweep_has_them() -> None:
    """Two knobs were varied; one of them is searched here, the other one left or set."""
    trials = tuple(
        Told(params={"n": str(n), "old": str(m)}, values=(math.exp(n if m == 1 else -n),))
        for n in range(1, 5)
        for m in (1, 2)
    )
    known = Earlier(name="old", trials=trials, baseline=trials[0])
    space = Space(dimensions=(Span(name="n", low=1, high=4), Choice(name="new", values=("x", "y"))))
    rows: list[Params] = [{"n": 1, "new": "x"}, {"n": 4, "new": "x"}, {"n": 4, "new": "y"}]

    def told(one: Earlier) -> list[float]:
        prior = Prior([one], space)
        prior.know({})
        return [float(each) for each in prior.of(rows)[:, 0]]

    low, high, same = told(known)  # old=1, as in its baseline
    assert low == pytest.approx(0, abs=0.3)
    assert high > low + 1
    assert high == same
    low, high, _ = told(replace(known, elsewhere={"old": "2"}))  # this sweep sets it
    assert high < low


def test_a_default_lies_where_each_engine_puts_it() -> None:
    trials = tuple(
        Told(params={"n": n}, values=(float(score),), resolved={"n": 32} if n == "null" else {})
        for n, score in (("null", 3), ("16", 2), ("32", 3), ("64", 4), ("128", 5))
    )
    prior = Prior(
        [Earlier(name="old", trials=trials, baseline=trials[0])],
        Space(dimensions=(Choice(name="n", values=("null", "16", "128")),)),
    )
    prior.know({})
    by_old = float(prior.of([{"n": "null"}])[0, 0])
    prior.know({"n": 128})
    by_ours = float(prior.of([{"n": "null"}])[0, 0])
    assert by_old == pytest.approx(0, abs=0.1)
    assert by_ours > by_old + 0.2


def test_words_and_numbers_of_the_same_knob_are_compared_all_the_same() -> None:
    trials = tuple(Told(params={"n": n}, values=(score,)) for n, score in (("auto", 1.0), ("16", 2.0), ("32", 3.0)))
    prior = Prior(
        [Earlier(name="old", trials=trials, baseline=trials[0])],
        Space(dimensions=(Span(name="n", low=8, high=64, is_log=True),)),
    )
    prior.know({})
    low, high = prior.of([{"n": 8}, {"n": 48}])[:, 0]
    assert high > low


def test_of_a_large_sweep_the_best_and_a_part_of_the_others_are_learned() -> None:
    prior = Prior([earlier(hill((6, 2, 5)), count=500)], GRID)
    prior.know({})
    best = prior.best(2)
    assert best[0] == dict(zip("abc", "625", strict=True))
    assert prior.of(best)[0, 0] > prior.of([dict.fromkeys("abc", "0")])[0, 0]
    assert MOST < 500


def test_trials_that_run_beside_it_get_other_proposals() -> None:
    old, aim = earlier(hill((6, 3, 5))), hill((6, 2, 5))
    ours = Proposer(Candidates(GRID), Switches(random_share=0), [True], [old])
    base: Params = dict.fromkeys("abc", "0")
    seen = [Told(params=base, values=(aim(base),))]
    for number in range(1, FIRST + 1):
        found = ours.next(seen, dice(number))
        assert found
        seen.append(Told(params=found.params, is_running=True))
    assert len({tuple(one.params.values()) for one in seen}) == FIRST + 1
