"""What answers do to the verdict: who cannot win, who wins marked, and what is said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.limits import Limits
from pipeline.core.reasons import Reason
from pipeline.core.record import Record
from pipeline.report import __main__ as report
from pipeline.report import answered, export, sentences, summary, verdict
from pipeline.sweep.search import outcome, policy
from pipeline.sweep.search.policy import Seen
from pipeline.sweep.tuner.barred import Barred
from support.answers import BROKEN, DIFFERS, FAR, WELL, base, trial
from support.records import make_metrics


def told(records: list[Record]) -> str:
    return "\n".join(sentences.of(verdict.of(records)))


def test_the_fastest_cannot_win_where_its_answers_are_broken() -> None:
    records = [base(), trial(1, 200.0, BROKEN), trial(2, 120.0, WELL, 64)]
    found = verdict.of(records)
    assert found.recommended == 2
    assert [(row.number, row.rank, "broken" in row.flags) for row in found.rows] == [
        (2, 1, False), (0, 2, False), (1, None, True),
    ]  # fmt: skip
    assert "Trial 1 cannot win, for what it answers: broken (one token repeated in 24 of 24 answers; " in told(records)
    assert "Quality of trial 2 against the baseline: same (100% of 288 tokens, floor 100%, free-running)." in told(
        records
    )


def test_what_differs_a_little_wins_marked() -> None:
    found = verdict.of([base(), trial(1, 200.0, DIFFERS)])
    assert found.recommended == 1
    assert found.best is not None
    assert "differs" in found.best.flags
    assert "Quality of trial 1 against the baseline: differs (95." in told([base(), trial(1, 200.0, DIFFERS)])


def test_what_differs_too_much_does_not_win() -> None:
    records = [base(), trial(1, 200.0, FAR)]
    found = verdict.of(records)
    assert (found.recommended, found.kind) == (0, "baseline")
    assert "differs too much" in found.rows[-1].flags


def test_a_winner_that_was_not_asked_is_unknown_and_that_is_said() -> None:
    assert "Quality of trial 1 against the baseline: unknown (was not asked)." in told([base(), trial(1, 200.0, None)])


def test_a_broken_baseline_bars_nobody_and_that_is_said() -> None:
    records = [base(answers=BROKEN), trial(1, 200.0, BROKEN)]
    assert verdict.of(records).recommended == 1
    assert "unknown (the baseline itself looks broken: one token repeated" in told(records)


def test_without_a_guard_nothing_is_said() -> None:
    assert "Quality" not in told([base(answers=None), trial(1, 200.0, None)])


def test_where_only_broken_ones_have_a_result_none_is_recommended() -> None:
    failed = base(objective=None, best_level=None, levels=(), status="failed")
    found = verdict.of([failed, trial(1, 200.0, BROKEN)])
    assert (found.recommended, found.kind, found.exit_code) == (None, "barred", 1)


def test_answers_of_a_repeat_count_for_its_configuration() -> None:
    again = trial(3, 190.0, BROKEN, repeat_of=1, phase="confirm", rounds=1)
    records = [base(), trial(1, 200.0, None), trial(2, 120.0, WELL, 64), again]
    assert answered.barred(records).keys() == {1}
    assert verdict.of(records).recommended == 2


def test_a_twin_is_judged_by_what_the_engine_answered_once() -> None:
    twin = trial(2, 200.0, BROKEN, 64, same_as=1)
    assert answered.barred([base(), trial(1, 200.0, BROKEN), twin]).keys() == {1, 2}


def test_the_answers_are_handed_over(tmp_path: Path) -> None:
    records = [base(), trial(1, 200.0, DIFFERS)]
    for record in records:
        (tmp_path / str(record.number)).mkdir()
        save(RunDir(tmp_path / str(record.number)).record, record)
    found = summary.finish(tmp_path)
    assert found.best is not None
    assert found.best.quality is not None
    assert found.best.quality.word == "differs"
    answers = json.loads((tmp_path / "best" / "answers.json").read_text())
    assert answers["quality"]["word"] == "differs"
    assert [len(answers[whose]["turns"]) for whose in ("winner", "baseline")] == [3, 3]
    assert "differs (95." in (tmp_path / "ranking.csv").read_text()


@pytest.mark.parametrize("engines", [1, 2])
def test_each_engine_is_held_against_its_own_baseline(engines: int) -> None:
    words = [("runtime=a",), ("runtime=b",)][:engines]
    records = [
        replace(one, number=one.number + 10 * at, overrides=(*word, *one.overrides))
        for at, word in enumerate(words)
        for one in (base(), trial(1, 200.0, BROKEN))
    ]
    assert answered.barred(records).keys() == {1 + 10 * at for at in range(engines)}


def test_the_search_measures_no_broken_contender_again(tmp_path: Path) -> None:
    """The confirmation goes by the same records as the verdict."""
    sweep = SweepDir(tmp_path)
    records = [base(), trial(1, 200.0, BROKEN), trial(2, 120.0, WELL, 64)]
    for record in records:
        (tmp_path / str(record.number)).mkdir()
        save(sweep.trial(record.number).record, record)
    seen = [
        Seen(number=one.number, state="complete", params={"page_size": str(one.number)}, is_baseline=one.is_baseline,
             values=outcome.of(one).values)
        for one in records
    ]  # fmt: skip
    barred = Barred()
    assert [*barred.of(sweep)] == [1]
    first = policy.confirmation(policy.without(seen, barred.of(sweep)), Limits(), is_maximised=[True])
    assert first is not None
    assert first.repeat_of == 2
    assert barred.told(sweep, records[1]).constraints["quality"] > 0
    assert "quality" not in barred.told(sweep, records[2]).constraints


@pytest.mark.parametrize(
    "found",
    [
        pytest.param([trial(1, 200.0, BROKEN, cached_from="other/4")], id="by the cache"),
        pytest.param([trial(1, 200.0, BROKEN), trial(2, 200.0, BROKEN, 64, same_as=1)], id="with a twin"),
        pytest.param(
            [
                trial(1, 200.0, None),
                trial(2, 200.0, None, 64, same_as=1),
                trial(3, 190.0, BROKEN, repeat_of=1, phase="confirm", rounds=1),
            ],
            id="with a twin, asked when it was confirmed",
        ),
        pytest.param([trial(1, 200.0, None), trial(2, 190.0, BROKEN, repeat_of=1)], id="asked when it was repeated"),
    ],
)
def test_no_broken_one_wins_whatever_way_its_answers_came(found: list[Record]) -> None:
    seen = verdict.of([base(), *found])
    assert (seen.recommended, seen.kind) == (0, "baseline")
    assert {row.number for row in seen.rows if row.rank is not None} == {0}


def test_rounds_that_were_run_before_its_answers_came_make_no_broken_one_a_winner() -> None:
    scores = [(1, 200.0), (0, 100.0), (0, 101.0), (1, 202.0), (1, 201.0), (0, 100.5)]
    again = [
        trial(number, score, None, 32 if of else None, repeat_of=of, phase="confirm")
        for number, (of, score) in enumerate(scores, start=2)
    ]
    records = [base(), trial(1, 200.0, None), *again]
    assert verdict.of([replace(one, asked=None) for one in records]).kind == "confirmed"
    found = verdict.of([replace(one, asked=BROKEN) if one.number == 6 else one for one in records])
    assert (found.recommended, found.contests) == (0, ())


def test_of_several_objectives_a_broken_one_is_on_no_front() -> None:
    names = ("output_tokens_per_s", "ttft_p95_s")
    records = [base(), trial(1, 900.0, BROKEN), trial(2, 120.0, WELL, 64)]
    fast = tuple(replace(one, metrics=make_metrics(output_tokens_per_s=900.0)) for one in records[1].levels)
    records[1] = replace(records[1], levels=fast)
    both = [
        replace(one, config=replace(one.config, objective=names), objective={**(one.objective or {}), names[1]: 0.35})
        for one in records
    ]
    found = verdict.of(both)
    assert found.recommended == 2
    assert 1 not in {point.number for point in found.front}
    assert verdict.of([replace(one, asked=None) for one in both]).recommended == 1


def of_two_engines(*alone: Record) -> list[Record]:
    return [
        replace(one, number=one.number + 10 * at, overrides=(f"runtime={name}", *one.overrides))
        for at, name in enumerate(("a", "b"))
        for one in alone
    ]


def test_of_several_engines_whose_results_are_all_broken_none_is_recommended() -> None:
    failed = base(objective=None, best_level=None, levels=(), status="failed")
    records = of_two_engines(failed, trial(1, 200.0, BROKEN))
    assert (verdict.of(records).recommended, verdict.of(records).kind) == (None, "barred")
    assert told(records).startswith("No configuration of a and b with a result answers as its baseline does.\n")


def test_a_broken_one_does_not_win_between_engines() -> None:
    found = verdict.of(of_two_engines(base(), trial(1, 200.0, BROKEN)))
    assert found.recommended in {0, 10}


def written(folder: Path, *records: Record) -> None:
    for record in records:
        (folder / str(record.number)).mkdir(exist_ok=True)
        save(RunDir(folder / str(record.number)).record, record)


def test_a_report_that_is_made_anew_takes_back_who_turned_out_to_be_broken(tmp_path: Path) -> None:
    sweep = SweepDir(tmp_path)
    failed = base(objective=None, best_level=None, levels=(), status="failed")
    written(tmp_path, failed, trial(1, 200.0, None), trial(2, 150.0, WELL, 64))
    assert report.main([str(tmp_path), "--no-html"]) == 0
    assert "page_size=32" in json.loads(sweep.best.read_text())["overrides"]
    written(tmp_path, trial(3, 199.0, BROKEN, repeat_of=1, phase="confirm"))
    assert report.main([str(tmp_path), "--no-html"]) == 0
    assert "page_size=64" in json.loads(sweep.best.read_text())["overrides"]
    written(tmp_path, trial(2, 150.0, BROKEN, 64))
    assert report.main([str(tmp_path), "--no-html"]) == 1
    assert not sweep.best.exists()
    assert not sweep.best_dir.exists()


def test_when_a_trial_ends_its_answers_are_held_against_the_baseline_that_has_ended() -> None:
    broken = trial(1, 200.0, BROKEN)
    looks_like = trial(2, 90.0, WELL, None, is_baseline=False, overrides=("slots=null",))
    found = answered.at_end(broken, [base(), looks_like])
    assert found is not None
    assert (found.word, found.may_win) == ("broken", False)
    assert answered.at_end(broken, [looks_like]) is None
    assert answered.at_end(base(), [broken]) is None
    assert answered.at_end(trial(1, 200.0, None), [base()]) is None
    proposed = replace(base(), is_baseline=False, reason=Reason(by="baseline"))  # beside knobs that are fixed
    assert answered.at_end(broken, [proposed]) == found


def test_the_summary_tells_each_level_whether_its_configuration_answers_as_the_baseline() -> None:
    records = [base(), trial(1, 200.0, DIFFERS), trial(2, 190.0, None, repeat_of=1), trial(3, 120.0, None, 64)]
    told_of = {line["trial"]: (line["quality"], line["quality.agreement"]) for line in export.lines(records)}
    assert told_of[1] == told_of[2]
    assert told_of[1][0] == "differs"
    assert told_of[1][1] == pytest.approx(88 / 92)
    assert told_of[0] == told_of[3] == (None, None)
