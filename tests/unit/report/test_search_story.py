"""What the report says of a search: what crashes, and why each trial was run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.files import SweepDir
from pipeline.core.reasons import Reason
from pipeline.core.record import Record
from pipeline.core.values import Scalar, from_json, to_json
from pipeline.report import page, search_story, summary, verdict
from support.records import make_config, make_failed_record, make_failure, make_record

GAIN = Reason(by="gain", expected=0.031, uncertainty=0.05, gain=0.02, crash_risk=0.125)


def trial(number: int, *, is_oom: bool = False, **knobs: Scalar | None) -> Record:
    config = replace(make_config(), knobs=knobs)
    if not is_oom:
        return make_record(number=number, config=config)
    return make_failed_record(number=number, config=config, failure=make_failure(kind="oom_gpu"))


def test_the_settings_of_a_failure_are_named() -> None:
    records = [trial(number, is_oom=number > 4, seqs=number) for number in range(8)]
    assert search_story.crashes(records) == ["oom_gpu: 3 of 3 trials with seqs ≥ 5; 0 of the 5 others."]


@pytest.mark.parametrize(
    "change", [{"status": "interrupted"}, {"status": "refused"}, {"repeat_of": 1}], ids=["stopped", "refused", "repeat"]
)
def test_what_was_not_run_by_itself_counts_for_nothing(change: Mapping[str, object]) -> None:
    records = [trial(1, seqs=1), *(replace(trial(n, is_oom=True, seqs=n), **change) for n in (7, 8))]  # type: ignore[arg-type]
    assert search_story.crashes(records) == []


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (GAIN, "expected +3.1% ± 5.0% against the best so far, crash risk 12%"),
        (Reason(by="baseline"), "the engine's defaults, which everything is compared with"),
        (Reason(by="random"), "drawn at random, as some are, so that the model cannot lead astray"),
    ],
)
def test_a_reason_is_one_line(reason: Reason, words: str) -> None:
    assert reason.words == words
    assert from_json(Reason, to_json(reason)) == reason


def test_page_and_terminal_tell_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [replace(trial(number, is_oom=number > 4, seqs=number), reason=GAIN) for number in range(8)]
    told = verdict.of(records)
    text = page.render(SweepDir(tmp_path), records, told, None)
    assert "<p>oom_gpu: 3 of 3 trials with seqs ≥ 5; 0 of the 5 others.</p>" in text
    assert text.count("expected +3.1% ± 5.0% against the best so far") == 8
    summary.show(tmp_path, records, told, None)
    assert "oom_gpu: 3 of 3 trials with seqs ≥ 5" in capsys.readouterr().out
