"""Who cannot win, as a search knows it while it runs: by records that come, and come again."""

from pathlib import Path

from pipeline.core.files import SweepDir, save
from pipeline.core.racing import Incumbent
from pipeline.core.record import Record
from pipeline.core.values import load
from pipeline.sweep.tuner.barred import Barred
from support.answers import BROKEN, WELL, base, trial


def ended(sweep: SweepDir, *records: Record) -> None:
    for record in records:
        sweep.trial(record.number).path.mkdir(exist_ok=True)
        save(sweep.trial(record.number).record, record)


def best(sweep: SweepDir) -> int | None:
    path = sweep.incumbent(None)
    return load(Incumbent, path).number if path.exists() else None


def test_a_trial_that_was_broken_off_and_runs_again_is_judged_by_its_new_answers(tmp_path: Path) -> None:
    sweep, barred = SweepDir(tmp_path), Barred()
    broken_off = trial(1, 200.0, None, status="interrupted", objective=None, best_level=None, levels=())
    ended(sweep, base(), broken_off)
    assert [*barred.of(sweep)] == []
    ended(sweep, trial(1, 200.0, BROKEN))
    assert [*barred.of(sweep)] == [1]
    sweep.trial(1).path.rename(tmp_path / "elsewhere")  # as one that is put aside
    (tmp_path / "elsewhere" / "record.json").unlink()
    assert [*barred.of(sweep)] == []


def test_nothing_is_raced_against_a_broken_trial(tmp_path: Path) -> None:
    sweep, barred = SweepDir(tmp_path), Barred()
    for record in (base(), trial(1, 200.0, BROKEN), trial(2, 120.0, WELL, 64)):
        ended(sweep, record)
        barred.race(sweep, record)
    assert best(sweep) == 2


def test_one_that_ended_before_the_baseline_is_raced_against_no_longer_once_it_is_known_to_be_broken(
    tmp_path: Path,
) -> None:
    """As where several trials run at once."""
    sweep, barred = SweepDir(tmp_path), Barred()
    early = trial(1, 200.0, BROKEN)
    ended(sweep, early)
    barred.race(sweep, early)
    assert best(sweep) == 1
    ended(sweep, base())
    barred.race(sweep, base())
    assert best(sweep) == 0


def test_a_broken_trial_is_told_to_the_search_as_outside_of_a_limit(tmp_path: Path) -> None:
    sweep, barred = SweepDir(tmp_path), Barred()
    ended(sweep, base(), trial(1, 200.0, BROKEN))
    told = barred.told(sweep, trial(1, 200.0, BROKEN))
    assert told.constraints["quality"] > 0
    assert told.attributes["outside"] == 0
    assert barred.told(sweep, base()).constraints == {}
