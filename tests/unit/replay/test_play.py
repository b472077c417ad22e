"""Searches on landscapes: the clock, the slots, what a trial costs, what is recommended."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.replay import play, strategies, tables, trial
from pipeline.replay.landscape import Landscape
from pipeline.replay.play import Budget, Play, Run
from pipeline.replay.strategies import Strategy
from pipeline.replay.tables import Options
from pipeline.replay.trial import Measured

SIDE = 6


@pytest.fixture(scope="module")
def hill(tmp_path_factory: pytest.TempPathFactory) -> Landscape:
    """A hill over two knobs; one corner fails, one row is missing."""
    rows = ["a,b,score,default"]
    for a in range(SIDE):
        for b in range(SIDE):
            score = "" if a == b == 0 else str(100 - (a - 4) ** 2 - (b - 3) ** 2)
            rows += [f"{a},{b},{score},{int(a == b == 1)}"] * ((a, b) != (5, 5))
    path: Path = tmp_path_factory.mktemp("tables") / "hill.csv"
    path.write_text("\n".join(rows))
    return tables.read(path, Options(noise=0.0))


@pytest.fixture(scope="module")
def named() -> dict[str, Strategy]:
    words = [
        "tuner",
        "default",
        "random",
        "tpe",
        "tpe-multivariate",
        "tpe-stock",
        "grid",
        "tpe:n_startup_trials=3,baseline=true",
    ]
    return dict(zip(words, strategies.made(words), strict=True))


def played(found: Landscape, strategy: Strategy, *, seed: int = 1, trials: int = 8, slots: int = 1) -> Run:
    return play.play(found, strategy, seed, Budget(trials=trials, slots=slots))


def test_the_same_seed_gives_the_same_search_and_another_one_another(
    hill: Landscape, named: dict[str, Strategy]
) -> None:
    one, same, other = (played(hill, named["random"], seed=seed) for seed in (1, 1, 2))
    assert (one.times, one.recommended) == (same.times, same.recommended)
    assert one.times != other.times


def test_trials_end_within_the_budget_and_take_their_time(hill: Landscape, named: dict[str, Strategy]) -> None:
    run = played(hill, named["random"])
    assert [*run.times] == sorted(run.times)
    assert run.times[0] > 0
    assert run.times[-1] <= 8
    assert run.deployed == len(run.times) == len(run.recommended)
    assert 6 <= run.deployed <= 8


def test_slots_share_the_work(hill: Landscape, named: dict[str, Strategy]) -> None:
    one, four = (played(hill, named["random"], trials=4, slots=slots) for slots in (1, 4))
    assert one.deployed < 5
    assert 12 <= four.deployed <= 16


def test_a_recommendation_gets_no_worse_without_noise(hill: Landscape, named: dict[str, Strategy]) -> None:
    for name in ("tuner", "random", "tpe", "tpe-multivariate"):
        run = played(hill, named[name], trials=12)
        assert [*run.recommended] == sorted(run.recommended), name


def test_tuner_begins_with_the_default_and_default_ends_with_it(hill: Landscape, named: dict[str, Strategy]) -> None:
    default = float(hill.truth[hill.default] / hill.best)
    for name in ("tuner", "tpe:n_startup_trials=3,baseline=true"):
        assert played(hill, named[name]).recommended[0] == pytest.approx(default)
    alone = played(hill, named["default"])
    assert alone.deployed == 1
    assert alone.recommended == pytest.approx((default,))


def test_confirmation_keeps_the_default_unless_better_is_shown(tmp_path: Path, named: dict[str, Strategy]) -> None:
    rows = "".join(f"{n},{score},{int(n == 0)}\n" for n, score in enumerate((100, 99, 98, 97, 150, 60, 50, 40)))
    (tmp_path / "t.csv").write_text(f"n,score,default\n{rows}")
    clear = played(tables.read(tmp_path / "t.csv", Options(noise=0.01)), named["tuner"], trials=12)
    assert clear.confirmed == 1.0
    assert 6 <= clear.rounds <= 12
    (tmp_path / "t.csv").write_text(f"n,score,default\n{rows.replace('4,150', '4,99.5')}")
    alike = [played(tables.read(tmp_path / "t.csv", Options(noise=0.05)), named["tuner"], seed=s) for s in range(4)]
    assert sum(run.confirmed == 1.0 for run in alike) >= 3
    assert played(tables.read(tmp_path / "t.csv", Options()), named["random"]).confirmed is None


def test_a_small_space_is_searched_to_its_end(hill: Landscape, named: dict[str, Strategy]) -> None:
    run = played(hill, named["random"], trials=60)
    assert (run.deployed, run.crashed) == (SIDE**2 - 1, 1)
    assert run.refused >= 1
    assert run.recommended[-1] == 1.0


def test_a_grid_is_run_in_order(hill: Landscape, named: dict[str, Strategy]) -> None:
    run = played(hill, named["grid"], trials=4)
    assert run.crashed == 1
    assert run.recommended[0] == 0.0  # the corner that fails comes first


def test_a_failing_trial_costs_a_part_and_measures_nothing(hill: Landscape, named: dict[str, Strategy]) -> None:
    row = hill.row({"a": "0", "b": "0"})
    assert row is not None
    one = Play(hill, named["grid"], 1, Budget(trials=4))
    job = one.search.next()
    assert job is not None
    running = trial.begun(hill, job, row, 1, 0)
    assert running.ready_s(hill) == hill.crash_s[row] < hill.startup_s[row] + hill.level_s[row, 0]
    told = trial.outcome(hill, running)
    assert (told.values, told.attributes["failure"]) == ((), hill.failure[row])


def test_what_chooses_levels_sees_what_was_measured_and_saves_the_rest(
    hill: Landscape, named: dict[str, Strategy]
) -> None:
    asked: list[tuple[int, int]] = []

    def busiest(found: Landscape, measured: Sequence[Measured], incumbent: Sequence[Measured]) -> int | None:
        asked.append((len(measured), len(incumbent)))
        if incumbent:
            return None if measured else len(found.levels) - 1
        return trial.every_level(found, measured, incumbent)

    one = Play(hill, named["random"], 1, Budget(trials=8), choose=busiest)
    run, whole = one.run(), played(hill, named["random"])
    first, *others = [each.user_attrs.get("raced") for each in one.search.study.optuna.trials if each.values]
    assert (first, {*others}) == (None, {True})
    assert run.times[0] == whole.times[0]
    assert run.deployed > whole.deployed
    levels = len(hill.levels)
    assert asked[0] == (0, 0)
    assert {had for had, best in asked if best} == {0, 1}
    assert {best for _, best in asked} == {0, levels}


def test_stock_tpe_is_told_no_order_and_no_failures_and_may_repeat(hill: Landscape, named: dict[str, Strategy]) -> None:
    one = Play(hill, named["tpe-stock"], 1, Budget(trials=60))
    run = one.run()
    trials = one.search.study.optuna.trials
    assert {type(each).__name__ for trial in trials for each in trial.distributions.values()} == {
        "CategoricalDistribution"
    }
    states = {trial.state.name for trial in trials if trial.user_attrs.get("failure")}
    assert run.crashed == 0 or states == {"FAIL"}
    assert run.deployed > SIDE**2 - 1
    repaired = played(hill, named["tpe"], trials=60)
    assert repaired.deployed == SIDE**2 - 1


def test_noise_is_the_configurations_own_whoever_measures_it(hill: Landscape, named: dict[str, Strategy]) -> None:
    job = Play(hill, named["random"], 1, Budget(trials=4)).search.next()
    assert job is not None
    noisy = tables.made("hill", "table", _raw(hill), Options(noise=0.05))
    first, same, again, other = (
        trial.begun(noisy, job, 7, seed, had).noise.tolist() for seed, had in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert first == same
    assert first not in (again, other)
    many = np.log([trial.begun(noisy, job, row, 1, 0).noise for row in range(35)])
    assert many.std() == pytest.approx(0.05, rel=0.2)


def _raw(found: Landscape) -> tables.Raw:
    return tables.Raw(names=found.space.names, picks=found.picks, score=found.truth)


def test_a_level_outside_of_the_slo_is_no_result_while_another_is_inside() -> None:
    inside, outside = (Measured(at=at, score=at + 1, latency=at + 0.5) for at in (0, 1))
    assert trial.score([inside, outside]) == 1
    assert trial.score([outside]) == 2
    assert trial.score([]) is None


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("randm", "there is no strategy randm. Did you mean random?"),
        ("tpe:multi=true", "Could not override 'hydra.sweeper.sampler.multi'"),
        ("motpe", "there is no strategy motpe."),
        ("tuner:racing=maybe", "racing=maybe: expected true or false."),
        ("tuner:repairs=false", "tuner cannot do without repairs."),
        ("random:seed=7", "each search has a seed of its own."),
    ],
)
def test_a_wrong_strategy_is_told_with_the_nearest(word: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        strategies.made([word])
    assert told in str(error.value)


def test_a_strategy_is_named_once() -> None:
    with pytest.raises(ConfigError, match="names tpe twice"):
        strategies.made(["tpe", "random", "tpe"])
