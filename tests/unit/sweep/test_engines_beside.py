"""A search over several engines: a space in which each has its own knobs, baselines, and rounds between the best."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from pipeline.core.limits import Limits
from pipeline.sweep.search import policy, space, storages
from pipeline.sweep.search.outcome import Outcome
from pipeline.sweep.search.policy import Next, Seen
from pipeline.sweep.search.search import Search
from pipeline.sweep.search.space import Choice, Params, Space, Span
from pipeline.sweep.search.strategy.candidates import Candidates
from pipeline.sweep.search.strategy.encoding import Encoding, agreed_of, resolved_of
from pipeline.sweep.search.strategy.sampler import Strategy
from pipeline.sweep.search.strategy.told import Told
from pipeline.sweep.search.study import Job, Study
from pipeline.sweep.tuner import dimensions

ENGINES = Choice(name="runtime", values=("sglang", "vllm"))
PAGES = Choice(name="sglang.page_size", values=("null", "32", "64"))
BLOCKS = Choice(name="vllm.block_size", values=("16", "32"))
SLOTS = Span(name="vllm.max_num_seqs", low=1, high=256, is_log=True)
TRAFFIC = Choice(name="traffic", values=("chat", "smoke"))
LISTED = Space(dimensions=(ENGINES, PAGES, BLOCKS, TRAFFIC), engines=("sglang", "vllm"))
WIDE = Space(dimensions=(ENGINES, PAGES, BLOCKS, SLOTS), engines=("sglang", "vllm"))
KNOBS = {"sglang": {"page_size"}, "vllm": {"block_size", "max_num_seqs"}}


def test_a_knob_is_part_of_its_engines_combinations_alone() -> None:
    assert LISTED.size == 3 * 2 + 2 * 2
    found = list(LISTED.combinations())
    assert len(found) == 10
    assert found[0] == {"runtime": "sglang", "sglang.page_size": "null", "traffic": "chat"}
    assert found[-1] == {"runtime": "vllm", "vllm.block_size": "32", "traffic": "smoke"}
    assert all(map(LISTED.holds, found))
    assert not LISTED.holds({**found[0], "vllm.block_size": "16"})
    assert not LISTED.holds({"runtime": "vllm", "traffic": "chat"})
    assert WIDE.size == 3 + 2 * 256


def test_a_trial_has_the_overrides_of_its_engine_alone() -> None:
    assert space.lines({"runtime": "vllm", "vllm.block_size": "16", "traffic": "chat"}) == (
        "runtime=vllm", "block_size=16", "traffic=chat"
    )  # fmt: skip


def test_a_space_may_lose_an_engine_that_cannot_run() -> None:
    left = LISTED.without(["sglang"])
    assert [*left.combinations()] == [one for one in LISTED.combinations() if one["runtime"] == "vllm"]
    assert LISTED.without([]) is LISTED


def test_every_engine_has_a_baseline() -> None:
    parsed = OverridesParser.create().parse_overrides(
        ["runtime=sglang,vllm", "sglang.page_size=32,64", "vllm.model=a,b", "traffic=chat,smoke"]
    )
    found = dimensions.space_of(parsed, KNOBS)
    assert dimensions.baselines_of(found, KNOBS) == [
        {"runtime": "sglang", "sglang.page_size": "null", "traffic": "chat"},
        {"runtime": "vllm", "vllm.model": "a", "traffic": "chat"},  # a model is no knob
    ]


def dice(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_candidates_are_combinations_and_never_the_same_twice() -> None:
    some = Candidates(LISTED)
    drawn = some.random(100, dice())
    assert len(drawn) == 10
    assert all(map(LISTED.holds, drawn))
    some.note(drawn[:9], {})
    assert some.any(dice()) == drawn[9]
    assert not some.is_free(drawn[0])
    wide = Candidates(WIDE)
    assert all(map(WIDE.holds, wide.random(100, dice())))
    near = wide.neighbours([{"runtime": "sglang", "sglang.page_size": "32"}], 5, dice())
    assert {one["runtime"] for one in near} == {"sglang", "vllm"}
    assert all(map(WIDE.holds, near))


def test_what_an_engine_makes_of_a_knob_is_known_by_its_own_name() -> None:
    seen = [
        Told(params={"runtime": "sglang", "sglang.page_size": "null"}, values=(1.0,), resolved={"page_size": 64}),
        Told(params={"runtime": "vllm", "vllm.block_size": "null"}, values=(1.0,), resolved={"block_size": 16}),
    ]
    expected = {"sglang.page_size": 64, "vllm.block_size": 16}
    assert agreed_of(seen, WIDE) == resolved_of(seen, WIDE) == expected
    some = Candidates(WIDE)
    some.note([one.params for one in seen], expected)
    assert not some.is_free({"runtime": "sglang", "sglang.page_size": "64"})  # as its default
    assert WIDE.placed({"runtime": "sglang", "sglang.page_size": "null"}, {"page_size": 64}) is not None
    assert WIDE.named(seen[0].params, {"page_size": "64", "tp_size": "1"}) == {"sglang.page_size": "64", "tp_size": "1"}


def test_a_model_sees_nothing_of_other_engines_knobs() -> None:
    rows = Encoding(WIDE, {}).rows(
        [
            {"runtime": "sglang", "sglang.page_size": "64"},
            {"runtime": "vllm", "vllm.block_size": "32", "vllm.max_num_seqs": 256},
        ]
    )
    assert rows.tolist() == [[1, 0, 0.5, 0, 0, 0], [0, 1, 0, 0, 0.5, 0.5]]


Made = Callable[..., Search]


@pytest.fixture
def search() -> Iterator[Made]:
    store = storages.in_memory()

    def make(found: Space, sampler: optuna.samplers.BaseSampler, **more: object) -> Search:
        study = Study(store, "sweep", found, ["maximize"])
        study.optuna.sampler = sampler
        baselines = dimensions.baselines_of(found, KNOBS)
        limits = Limits(n_trials=12, confirm=0)
        return Search(study, limits, baselines, is_maximised=[True], in_order=False, **more)  # type: ignore[arg-type]

    yield make
    store.storage.remove_session()


def best_slots(job: Job) -> Outcome:
    """Of vllm the more sequences the better; sglang is behind."""
    slots = job.params.get("vllm.max_num_seqs", 8)
    return Outcome(values=(1.0 if slots == "null" else 1 + float(slots) / 100,))


def run_all(one: Search) -> list[Params]:
    done = []
    while job := one.next():
        one.tell(job.number, best_slots(job))
        done.append(job.params)
    return done


SAMPLERS: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
    "ours": lambda: Strategy(seed=1, start=2),
    "tpe": lambda: optuna.samplers.TPESampler(seed=1, n_startup_trials=3),
    "multivariate": lambda: optuna.samplers.TPESampler(seed=1, multivariate=True, group=True, n_startup_trials=3),
    "random": lambda: optuna.samplers.RandomSampler(seed=1),
    "nsgaii": lambda: optuna.samplers.NSGAIISampler(seed=1, population_size=4),
}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_any_sampler_searches_among_engines(search: Made, sampler: Callable[[], optuna.samplers.BaseSampler]) -> None:
    done = run_all(search(WIDE, sampler()))
    assert done[:2] == [
        {"runtime": "sglang", "sglang.page_size": "null"},
        {"runtime": "vllm", "vllm.block_size": "null", "vllm.max_num_seqs": "null"},
    ]
    assert len(done) == 12
    assert all(map(WIDE.holds, done[2:]))
    assert len({policy.key(one) for one in done}) == 12  # none twice
    assert len({one["runtime"] for one in done[2:]}) == 2


def test_ours_finds_the_better_engine(search: Made) -> None:
    done = run_all(search(WIDE, Strategy(seed=2, start=2)))
    assert sum(one["runtime"] == "vllm" for one in done[4:]) > len(done[4:]) / 2
    assert max(float(one.get("vllm.max_num_seqs", 0)) for one in done[2:]) > 200


@pytest.mark.parametrize("sampler", ["ours", "tpe", "random"])
def test_an_engine_that_cannot_run_is_never_run(search: Made, sampler: str) -> None:
    done = run_all(search(WIDE, SAMPLERS[sampler](), left_out=["vllm"]))
    assert [params["sglang.page_size"] for params in done] == ["null", "32", "64"]


def trial(number: int, engine: str, score: float | None, **changes: object) -> Seen:
    state = "failed" if score is None else "complete"
    values = () if score is None else (score,)
    made = Seen(number=number, state=state, params={"runtime": engine, "n": number}, values=values)  # type: ignore[arg-type]
    return replace(made, **changes)  # type: ignore[arg-type]


def tried() -> list[Seen]:
    """Two baselines, and a better configuration of each engine."""
    return [
        trial(0, "sglang", 1.0, is_baseline=True), trial(1, "vllm", 2.0, is_baseline=True),
        trial(2, "sglang", 3.0), trial(3, "vllm", 2.5),
    ]  # fmt: skip


def rounds(seen: list[Seen], limits: Limits, measure: Callable[[Next], float | None]) -> list[tuple[str, int | None]]:
    asked: list[tuple[str, int | None]] = []
    engines = ("sglang", "vllm")
    while found := policy.confirmation(seen, limits, is_maximised=[True], engines=engines):
        asked.append((found.phase, found.repeat_of))
        engine = str((found.params or {})["runtime"])
        seen.append(trial(len(seen), engine, measure(found), repeat_of=found.repeat_of, phase=found.phase))
        assert len(asked) < 60
    return asked


SCORES = {0: 1.0, 1: 2.0, 2: 3.0, 3: 2.5}


def test_each_engine_is_confirmed_against_its_own_baseline_then_the_best_against_each_other() -> None:
    asked = rounds(tried(), Limits(confirm=2), lambda one: SCORES[one.repeat_of or 0])
    assert asked == [
        *(("confirm", number) for number in (2, 0, 0, 2)),
        *(("confirm", number) for number in (3, 1, 1, 3)),
        *(("between", number) for number in (2, 3, 3, 2)),
    ]


def test_an_engine_whose_contender_falls_sends_its_baseline() -> None:
    asked = rounds(tried(), Limits(confirm=2), lambda one: {**SCORES, 3: 1.5}[one.repeat_of or 0])
    assert asked[-4:] == [("between", number) for number in (2, 1, 1, 2)]


def test_as_many_rounds_are_taken_as_it_needs() -> None:
    noise = iter(np.random.default_rng(1).normal(1, 0.02, 100))
    asked = rounds(tried(), Limits(), lambda one: SCORES[one.repeat_of or 0] * float(next(noise)))
    assert sum(phase == "between" for phase, _ in asked) in {6, 8, 10, 12}


def test_an_engine_without_a_baseline_sends_its_best() -> None:
    seen = [one for one in tried() if not (one.is_baseline and one.params["runtime"] == "vllm")]
    asked = rounds([replace(one, number=at) for at, one in enumerate(seen)], Limits(confirm=1), lambda _one: 1.0)
    assert {phase for phase, _ in asked} == {"confirm", "between"}
    assert {number for phase, number in asked if phase == "between"} == {
        0,
        2,
    }  # of sglang the baseline, which nothing beat


@pytest.mark.parametrize(
    ("limits", "left"), [(Limits(confirm=0), 0), (Limits(confirm=1), 1)], ids=["none-asked-for", "one-engine"]
)
def test_there_is_nothing_between_where_nothing_is_to_be_shown(limits: Limits, left: int) -> None:
    seen = [trial(one.number, str(one.params["runtime"]), None) if left and one.number % 2 else one for one in tried()]
    asked = rounds(seen, limits, lambda one: SCORES[one.repeat_of or 0])
    assert not [phase for phase, _ in asked if phase == "between"]
