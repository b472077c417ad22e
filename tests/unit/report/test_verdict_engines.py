"""What a sweep of several engines has shown: of each alone, and between them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import between
from pipeline.core.files import SweepDir, save
from pipeline.core.record import Record
from pipeline.core.rounds import Rules, Sample
from pipeline.core.values import load
from pipeline.report import importance, page, plots, publication, ranking, sentences, summary, table, verdict
from pipeline.report.best import card
from pipeline.report.summary import Best
from pipeline.report.verdict import Verdict
from support.records import CONFIG, make_config, make_failed_record, make_record

SCORE = "output_tokens_per_s"
KNOBS = {"sglang": "page_size", "vllm": "block_size"}


def trial(number: int, engine: str, pick: int | None, score: float | None, **changes: Any) -> Record:
    knob = KNOBS[engine]
    kinds = {knob: {"kind": "int", "flag": "--x", "help": "tokens", "minimum": 1}}
    runtime = {**CONFIG["runtime"], "name": engine, "knobs": kinds}
    config = make_config(runtime=runtime, knobs={knob: pick}, slo=changes.pop("slo", CONFIG["slo"]))
    words = (f"runtime={engine}", f"{knob}={'null' if pick is None else pick}")
    made = {"number": number, "config": config, "overrides": words, "is_baseline": pick is None, **changes}
    return make_failed_record(**made) if score is None else make_record(**made, objective={SCORE: score})


def searched() -> list[Record]:
    """A baseline of each engine, and something better than it."""
    return [
        trial(0, "sglang", None, 100.0), trial(1, "vllm", None, 200.0),
        trial(2, "sglang", 32, 300.0), trial(3, "vllm", 16, 250.0), trial(4, "vllm", 32, 150.0),
    ]  # fmt: skip


def rounds(
    records: list[Record], ours: int, theirs: int, phase: str, *scores: tuple[float | None, float | None]
) -> None:
    """Add what each round measured of two configurations."""
    for turn, both in enumerate(scores):
        pairs = [(ours, both[0]), (theirs, both[1])]
        for of, score in pairs if turn % 2 == 0 else pairs[::-1]:
            first = records[of]
            engine = first.config.runtime.name
            pick = first.config.knobs[KNOBS[engine]]
            again = trial(len(records), engine, pick, score, repeat_of=of, phase=phase)  # type: ignore[arg-type]
            records.append(again)


BETTER = ((300.0, 100.0), (303.0, 101.0), (297.0, 99.0))
FAINT = ((250.0, 200.0), (252.0, 199.0), (249.0, 201.0))


def confirmed(*matches: tuple[float | None, float | None]) -> list[Record]:
    records = searched()
    rounds(records, 2, 0, "confirm", *BETTER)
    rounds(records, 3, 1, "confirm", *FAINT)
    rounds(records, 2, 3, "between", *matches)
    return records


def changes(found: Verdict) -> dict[int, str]:
    return {row.number: table.change(row, found) for row in found.rows}


def test_changes_are_against_the_own_baseline() -> None:
    found = verdict.of(searched())
    assert changes(found) == {
        0: "baseline", 1: "baseline", 2: "+200.0% (once)", 3: "+25.0% (once)", 4: "-25.0% (once)",
    }  # fmt: skip
    assert (found.kind, found.recommended, found.exit_code) == ("engine once", 2, 0)
    assert {engine: one.recommended for engine, one in found.engines.items()} == {"sglang": 2, "vllm": 3}
    told = sentences.of(found)
    assert told[0].startswith("Between the engines: trial 2 (sglang) leads, by too few measurements: the difference")
    assert [one.partition(":")[0] for one in told[1:3]] == ["sglang", "vllm"]
    assert table.legend(found).count("change: against the baseline of the same engine.") == 1


SHOWN = ((300.0, 250.0), (301.0, 251.0), (299.0, 248.0))
ALIKE = ((255.0, 250.0), (245.0, 250.0), (250.0, 251.0))
TURNED = ((250.0, 300.0), (251.0, 301.0), (248.0, 299.0))


@pytest.mark.parametrize(
    ("matches", "kind", "recommended", "words"),
    [
        (SHOWN, "engine shown", 2, "Between the engines: trial 2 (sglang) is better than the best of each other one"),
        (TURNED, "engine shown", 3, "Between the engines: trial 3 (vllm) is better than the best of each other one"),
        (ALIKE, "engine not shown", 3, "no difference was shown. Trial 3 (vllm) leads by the rounds"),
        (SHOWN[:1], "engine once", 2, "trial 2 (sglang) leads, by too few measurements"),
        (((None, 250.0), (None, 251.0)), "engine shown", 3, "trial 3 (vllm) is better"),
        (((300.0, None), (300.0, None)), "engine shown", 2, "trial 2 (sglang) is better"),
    ],
    ids=["shown", "the-other-one", "alike", "unfinished", "ours-fails", "theirs-fails"],
)
def test_the_best_of_each_engine_is_held_against_the_others(
    matches: Any, kind: str, recommended: int, words: str
) -> None:
    records = [*confirmed(*matches)]
    for record in (one for one in records if one.phase == "between"):
        assert record.rounds is None  # as many as the bounds take
    found = verdict.of(records)
    assert (found.kind, found.recommended) == (kind, recommended)
    told = sentences.of(found)
    assert words in told[0]
    assert told[1].startswith("Trial 2 (sglang) against trial 3 (vllm), by ")
    assert "sglang: Trial 2 against the baseline, by 3 alternating rounds: better by 200.0%" in " ".join(told)
    assert [row.rank for row in found.rows] == [1, 2, 3, 4, 5]
    assert found.rows[0].number == recommended


def test_an_engine_without_a_result_leaves_it_to_the_other_one() -> None:
    records = [trial(0, "sglang", None, None), *searched()[1:2], trial(2, "sglang", 32, None), *searched()[3:]]
    found = verdict.of(records)
    assert (found.kind, found.recommended) == ("once", 3)
    assert sentences.of(found)[0] == "Only vllm has a configuration to recommend: trial 3 (vllm)."
    assert "sglang: No trial has a result." in sentences.of(found)
    nothing = verdict.of([trial(0, "sglang", None, None), trial(1, "vllm", None, None)])
    assert (nothing.kind, nothing.exit_code) == ("no result", 1)
    assert sentences.of(nothing)[0] == "No trial of sglang and vllm has a result."


def test_engines_that_are_not_tuned_are_compared_all_the_same() -> None:
    records = searched()[:2]
    rounds(records, 1, 0, "between", *((200.0, 100.0),) * 3)
    found = verdict.of(records)
    assert (found.kind, found.recommended) == ("engine shown", 1)
    assert "vllm: Trial 1 is its only configuration." in sentences.of(found)


def test_three_engines_in_turn() -> None:
    def sample(number: int, of: int, score: float) -> Sample:
        return Sample(number=number, of=of, how="fine", score=score, place="here", phase="between")

    scores, seen = {1: 3.0, 2: 2.0, 3: 1.0}, list[Sample]()
    rules = Rules(planned=2)
    while step := between.decide(seen, scores, rules).next:
        seen.append(sample(len(seen), step.of, {1: 2.0, 2: 3.0, 3: 1.0}[step.of] + len(seen) / 1000))
        assert len(seen) < 20
    found = between.decide(seen, scores, rules)
    assert [(match.contest.contender, match.against) for match in found.played] == [(1, 2), (2, 3)]
    assert (found.leader, [match.leader for match in found.played]) == (2, [2, 2])


def test_files_and_trackers_are_told_of_both(tmp_path: Path) -> None:
    records = confirmed(*SHOWN)
    sweep = SweepDir(tmp_path)
    for record in records:
        sweep.trial(record.number).path.mkdir()
        save(sweep.trial(record.number).record, record)
    found = summary.finish(tmp_path)
    assert sweep.report.exists()
    best = load(Best, sweep.best)
    assert (best.trial_id, best.verdict) == (records[2].trial_id, "engine shown")
    assert {engine: one.trial_id for engine, one in best.engines.items()} == {
        "sglang": records[2].trial_id, "vllm": records[3].trial_id
    }  # fmt: skip
    assert card.of(records[2], records).measured == 6  # by the rounds against the baseline and against the other engine
    rows = list(csv.DictReader(io.StringIO(sweep.ranking.read_text())))
    assert [row["overrides"] for row in rows][:2] == ["runtime=sglang page_size=32", "runtime=vllm block_size=16"]
    assert json.loads(sweep.best.read_text())["engines"]["vllm"]["verdict"] == "confirmed"
    told = publication.result_of(found.records)
    assert (told.choices["runtime"], told.knobs) == ("sglang,vllm", ("page_size", "block_size"))
    assert told.verdict[0].startswith("Between the engines:")
    html = page.render(sweep, records, found.verdict, best.command)
    assert "tiny on sglang" in html
    assert "and vllm" in html


def test_plots_are_of_each_engine_alone() -> None:
    records = searched()
    rows = ranking.standings(records)
    assert [name for name, _ in plots.slices(records, rows)] == ["sglang.page_size", "vllm.block_size"]
    assert importance.of(records, rows) == {}  # too few
    many = records + [trial(number, "vllm", number, float(number)) for number in range(5, 15)]
    assert [*importance.of(many, ranking.standings(many))] == ["vllm.block_size"]
