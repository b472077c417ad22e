"""Proposals from trials that make numbers go wrong: none with a result, all alike, no numbers, endless ranges."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hydra.core.utils import JobReturn

from pipeline.core.errors import ConfigError
from pipeline.sweep import adoption
from pipeline.sweep.search.policy import Next
from pipeline.sweep.search.space import Choice, Params, Space, Span, only
from pipeline.sweep.search.strategy import surrogate, targets
from pipeline.sweep.search.strategy.candidates import Candidates
from pipeline.sweep.search.strategy.earlier import Earlier
from pipeline.sweep.search.strategy.encoding import Encoding
from pipeline.sweep.search.strategy.propose import Proposal, Proposer, Switches
from pipeline.sweep.search.strategy.sampler import Strategy
from pipeline.sweep.search.strategy.surrogate import Kernel
from pipeline.sweep.search.strategy.told import Told
from pipeline.sweep.search.study import in_memory

EIGHT = tuple(map(str, range(8)))
GRID = Space(dimensions=tuple(Choice(name=name, values=EIGHT) for name in "ab"))
AT_ONCE = Switches(start=0, random_share=0.0)


def dice(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def some(count: int, space: Space = GRID) -> list[Params]:
    return Candidates(space).random(count, dice(9))


def proposed(seen: Sequence[Told], space: Space = GRID, objectives: int = 1) -> Proposal:
    """The model's choice, which is one that was not run."""
    found = Proposer(Candidates(space), AT_ONCE, [True] * objectives).next(seen, dice())
    assert found
    assert space.holds(found.params)
    assert found.params not in [one.params for one in seen]
    return found


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_a_score_without_a_logarithm_is_as_bad_as_any(score: float) -> None:
    seen = [Told(params=one, values=(value,)) for one, value in zip(some(4), (10.0, 11.0, 12.0, score), strict=True)]
    y = targets.target(seen, [True], [1.0]).y
    assert min(y[:3]) > y[3] > math.log(8)
    reason = proposed(seen).reason
    assert reason.expected is not None
    assert math.isfinite(reason.expected)


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("scores", [(3.0,), (0.0,), (0.1,) * 7, (0.0,) * 7, (1e-300, 1e300)])
def test_few_and_equal_scores_are_learned_from(scores: Sequence[float], objectives: int) -> None:
    seen = [Told(params=one, values=(score,) * objectives) for one, score in zip(some(7), scores, strict=False)]
    assert proposed(seen, objectives=objectives).reason.by == "gain"


@pytest.mark.parametrize("count", range(2, 12))
def test_where_all_scores_are_the_same_what_was_not_run_stays_uncertain(count: int) -> None:
    rows, y = dice().random((count, 3)) - 0.5, np.full(count, math.log(123.4))
    mean, sd = surrogate.posterior(Kernel.usual(3), rows, y).at(rows + 1.0)
    assert mean == pytest.approx(math.log(123.4))
    assert sd.min() > 0.1


def test_the_same_configuration_many_times_is_one_that_is_well_known() -> None:
    seen = [Told(params=some(1)[0], values=(10.0 + at % 3,)) for at in range(60)]
    assert proposed([*seen, *(Told(params=one, values=(5.0,)) for one in some(3)[1:])]).reason.by == "gain"


@pytest.mark.parametrize("kind", ["oom_gpu", "node_failed"])
def test_where_all_has_failed_the_next_is_drawn(kind: str) -> None:
    assert proposed([Told(params=one, failure=kind) for one in some(12)]).reason.by == "start"


@pytest.mark.parametrize(
    "knob",
    [
        Choice(name="k", values=("1",)),
        Choice(name="k", values=("x",)),
        Choice(name="k", values=("1", "1.0")),
        Span(name="k", low=5, high=5),
        Span(name="k", low=1, high=2**62),
        Span(name="k", low=1, high=2**62, is_log=True),
        Span(name="k", low=-1e300, high=1e300),
        Span(name="k", low=1e-300, high=1e300, is_log=True),
        Span(name="k", low=0.25, high=0.25),
    ],
    ids=str,
)
def test_knobs_with_one_value_or_nearly_endless_ranges_are_searched(knob: Choice | Span) -> None:
    space = Space(dimensions=(*GRID.dimensions, knob))
    seen = [Told(params=one, values=(1.0 + at,)) for at, one in enumerate(some(8, space))]
    seen += [Told(params=one, failure="oom_gpu") for one in some(10, space)[8:]]
    reason = proposed(seen, space).reason
    assert reason.expected is not None
    assert math.isfinite(reason.expected)


def test_without_neighbours_of_the_best_an_earlier_sweep_is_learned_from_all_the_same() -> None:
    old = [Told(params=one, values=(1.0 + at,)) for at, one in enumerate(some(12))]
    known = Earlier(name="old", trials=tuple(old), baseline=old[0])
    alone = Switches(start=0, random_share=0.0, best=0)
    found = Proposer(Candidates(GRID), alone, [True], [known]).next(old[:1], dice())
    assert found
    assert found.reason.by == "gain"


def test_a_weighing_of_objectives_is_not_told_as_a_share_of_one() -> None:
    seen = [Told(params=one, values=(1.0 + at, 9.0 - at)) for at, one in enumerate(some(8))]
    reason = proposed(seen, objectives=2).reason
    assert (reason.by, reason.expected, reason.gain) == ("gain", None, None)
    assert reason.words == "the most promising, by one random weighing of the objectives"
    assert "expected" not in reason.override


@pytest.mark.parametrize("is_log", [False, True])
def test_the_next_whole_numbers_are_neighbours(is_log: bool) -> None:
    near = Candidates(Space(dimensions=(Span(name="n", low=1, high=4096, is_log=is_log),)))
    found = {one["n"] for at in (1, 16, 4096) for one in near.neighbours([{"n": at}], 0, dice())}
    assert found >= {2, 15, 17, 4095}


KERNELS = Space(dimensions=(Choice(name="k", values=("null", "fa3", "triton")), Choice(name="eager", values=("true",))))


def test_a_default_that_is_one_of_the_names_is_that_one() -> None:
    default, fa3, triton = ({"k": each, "eager": "null"} for each in KERNELS.dimensions[0].each())
    rows = Encoding(KERNELS, {"k": "FA3", "eager": True}).rows([default, fa3, triton])
    assert rows.tolist() == [[1, 0, 1], [1, 0, 1], [0, 1, 1]]
    beside = Encoding(KERNELS, {"k": "flashinfer"}).rows([default, fa3, triton])
    assert beside.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]


def test_a_default_of_yes_is_the_twin_of_true() -> None:
    free = Candidates(KERNELS)
    free.note([{"k": "fa3", "eager": "null"}], {"eager": True})
    assert not free.is_free({"k": "fa3", "eager": "true"})
    assert free.is_free({"k": "triton", "eager": "true"})


def test_where_nothing_can_start_knobs_are_drawn_one_by_one() -> None:
    study = in_memory(GRID, ["maximize"])
    study.optuna.sampler, study.foresee = Strategy(seed=1), only(lambda _: False)
    drawn = [study.begin(Next()).params for _ in range(8)]
    assert any(one["a"] != one["b"] for one in drawn)


@pytest.mark.parametrize(("why", "is_crash"), [(ConfigError("k=fa9: expected fa3"), True), (OSError(13), False)])
def test_a_trial_without_a_record_is_its_configurations_fault_if_that_was_refused(
    why: Exception, is_crash: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    result = JobReturn(_return_value=why)
    kind = adoption.unrecorded(3, result)
    assert Told(params={}, failure=kind).is_crash is is_crash
    assert ("Trial 3 did not run: k=fa9" in capsys.readouterr().err) is is_crash
