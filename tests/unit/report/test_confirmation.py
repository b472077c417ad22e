"""What was measured again: one row for each configuration, and a verdict on the winner."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.record import Record
from pipeline.report import confirmation, summary
from pipeline.report.ranking import rank
from support.records import make_config, make_failed_record, make_record


def trial(number: int, score: float | None, *, name: str = "output_tokens_per_s", **changes: Any) -> Record:
    config = make_config(objective=[name], knobs={"page_size": changes.pop("page_size", 32), "slots": None})
    changes |= {"number": number, "config": config, "overrides": (f"page_size={config.knobs['page_size']}",)}
    return make_failed_record(**changes) if score is None else make_record(**changes, objective={name: score})


def base(number: int, score: float | None, **changes: Any) -> Record:
    return trial(number, score, page_size=None, is_baseline=True, **changes)


def rounds(*pairs: tuple[float | None, float | None], **changes: Any) -> list[Record]:
    """Baseline 0, winner 1, and what each round measured, the first of them alternating."""
    made = [base(0, 100.0, **changes), trial(1, 130.0, **changes)]
    for turn, (ours, theirs) in enumerate(pairs):
        number = 2 + 2 * turn
        order = (number, number + 1) if turn % 2 == 0 else (number + 1, number)
        made += [
            trial(order[0], ours, repeat_of=1, phase="confirm", **changes),
            base(order[1], theirs, repeat_of=0, phase="confirm", **changes),
        ]
    return made


def told(records: list[Record]) -> list[str]:
    rows = rank(records)
    return list(confirmation.sentences(confirmation.confirm(records, rows), rows))


def test_repeats_are_one_row_with_an_interval() -> None:
    seen = [
        trial(0, 9.0),
        trial(1, 8.0),
        trial(2, 11.0, repeat_of=0),
        trial(3, 9.0, repeat_of=1),
        trial(4, None, repeat_of=0),
    ]
    first, second = rank(seen)
    assert (first.number, first.objective, first.measured, first.runs) == (0, (10.0,), 2, 3)
    assert first.half_width == pytest.approx(12.706, rel=1e-3)  # t(0.975, 1) times the standard error of 1
    assert (second.number, second.objective, second.measured, second.runs) == (1, (8.5,), 2, 2)


def test_a_configuration_that_was_measured_once_has_no_interval() -> None:
    (row,) = rank([trial(0, 9.0)])
    assert (row.half_width, row.measured, row.runs) == (None, 1, 1)


def test_a_repeat_whose_first_trial_is_gone_stands_for_itself() -> None:
    assert [row.number for row in rank([trial(4, 9.0, repeat_of=2)])] == [4]


def test_confirmations_do_not_change_the_ranking() -> None:
    assert [(row.number, row.objective) for row in rank(rounds((90.0, 100.0), (80.0, 100.0)))] == [
        (1, (130.0,)),
        (0, (100.0,)),
    ]


def test_a_better_winner() -> None:
    headline, noise = told(rounds((120.0, 100.0), (118.0, 99.0), (122.0, 101.0)))
    assert headline.startswith("Trial 1 against the baseline, by 3 alternating rounds: better by 20.")
    assert noise.startswith("Differences below ")


def test_a_winner_by_luck() -> None:
    headline, _ = told(rounds((105.0, 100.0), (95.0, 101.0), (101.0, 99.0)))
    assert "no difference shown (" in headline


def test_a_winner_that_is_worse() -> None:
    headline, _ = told(rounds((80.0, 100.0), (81.0, 101.0), (79.0, 99.0)))
    assert ": worse by 20." in headline


def test_less_latency_is_better() -> None:
    name = "ttft_p95_s"
    seen = [base(0, 1.0, name=name), trial(1, 0.5, name=name)]
    for number in (2, 4):
        seen += [
            trial(number, 0.5, name=name, repeat_of=1, phase="confirm"),
            base(number + 1, 1.0, name=name, repeat_of=0, phase="confirm"),
        ]
    assert "better by 50.0%" in told(seen)[0]


def test_a_round_that_failed_does_not_count_and_is_said() -> None:
    *_, lost = told(rounds((120.0, 100.0), (118.0, 99.0), (None, 101.0)))
    assert lost == "1 of the rounds did not count: the winner or the baseline failed or was not run."


def test_a_measurement_without_its_counterpart_is_said() -> None:
    *_, lost = told([*rounds((120.0, 100.0), (118.0, 99.0)), trial(6, 121.0, repeat_of=1, phase="confirm")])
    assert lost.startswith("1 of the rounds did not count")


def test_one_round_is_too_few() -> None:
    (only,) = told(rounds((120.0, 100.0)))
    assert only.startswith("Trial 1 against the baseline was measured in one round only: a difference can be noise.")


def test_repeats_without_a_baseline_claim_neither() -> None:
    (only,) = told([trial(0, 100.0), trial(1, 150.0, page_size=64), trial(2, 101.0, repeat_of=0)])
    assert only == "No baseline with a result to compare with; ± is the 95% interval of a mean."


def test_repeats_of_the_search_show_something_as_well() -> None:
    seen = [base(0, 100.0), trial(1, 150.0), base(2, 101.0, repeat_of=0), trial(3, 151.0, repeat_of=1)]
    assert told(seen)[0].startswith("Trial 1 against the baseline, by the repeats of the search: better by ")


def test_without_a_second_measurement_nothing_is_claimed() -> None:
    (only,) = told([base(0, 100.0), trial(1, 130.0)])
    assert "can be noise. Set hydra.sweeper.confirm=3" in only
    assert told([base(0, 100.0), trial(1, 90.0)]) == ["Nothing was better than the baseline."]
    assert told([trial(0, 100.0)]) == []


def test_other_traffic_is_told() -> None:
    seen = [
        base(0, 100.0),
        trial(1, 130.0),
        trial(2, 55.0, repeat_of=1, phase="held_out"),
        base(3, 50.0, repeat_of=0, phase="held_out"),
    ]
    assert told(seen)[-1] == "Under traffic=quick, which the search did not use: +10.0%, measured once each."


def test_with_several_objectives_the_pareto_front_is_marked() -> None:
    names = ("output_tokens_per_s", "ttft_p95_s")
    config = make_config(objective=list(names))
    points = [(100.0, 0.5), (90.0, 0.3), (80.0, 0.4)]
    seen = [
        make_record(number=i, config=config, objective=dict(zip(names, point, strict=True)))
        for i, point in enumerate(points)
    ]
    assert [(row.number, row.is_optimal) for row in rank(seen)] == [(0, True), (1, True), (2, False)]


def test_the_table_says_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = [*rounds((120.0, 100.0), (118.0, 99.0)), trial(6, 128.0, repeat_of=1), trial(7, None, repeat_of=1)]
    for record in seen:
        run_dir = RunDir(tmp_path / str(record.number))
        run_dir.path.mkdir()
        save(run_dir.record, record)
    summary.finish(tmp_path)
    out = capsys.readouterr().out
    assert "129 ±13 (2 of 3 runs)" in out
    assert "Trial 1 against the baseline, by 2 alternating rounds: better by 19." in out
    card = (SweepDir(tmp_path).best_dir / "card.md").read_text()
    assert "- against the baseline: better by 19." in card
