"""The report's page and its summaries, from made-up sweeps."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.core.evaluation import FOLDER, Change, Evaluated
from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.record import Record
from pipeline.core.values import load
from pipeline.report import __main__ as report
from pipeline.report import evaluated, export, page, plots, verdict
from pipeline.report.best.card import Card
from support import many_records
from support.records import CONFIG, make_config, make_failed_record, make_failure, make_levels, make_record

Render = Callable[..., str]
SCORE = {"output_tokens_per_s": 200.0}


@pytest.fixture
def render(tmp_path: Path) -> Render:
    def make(*records: Record) -> str:
        whole = page.render(SweepDir(tmp_path), records, verdict.of(records), "python -m pipeline n=1")
        return re.sub(r"<script>/\*\*.*?</script>", "", whole, flags=re.DOTALL)  # without plotly's own words

    return make


def figures(text: str) -> dict[str, Any]:
    (found,) = re.findall(r'id="figures">(.*?)</script>', text, re.DOTALL)
    data: dict[str, Any] = json.loads(found)
    return data


def headings(text: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", text)


def test_a_sweep_has_every_section(render: Render, tmp_path: Path) -> None:
    text = render(*many_records.write(tmp_path, 30))
    assert headings(text) == [
        "Ranking", "Level by level", "Throughput against latency", "Over the load: the best 5 and the baseline",
        "Which knobs matter", "Knob by knob", "The search over time", "Where the time went", "What failed",
        "Environment",
    ]  # fmt: skip
    assert re.search(r"<p>Trial \d+ against the baseline, by 3 alternating rounds: better by ", text)
    assert len(figures(text)) == text.count("data-figure=")
    assert "torch.OutOfMemoryError: CUDA out of memory." in text
    assert 'class="winner' in text


def test_nothing_of_a_page_comes_from_elsewhere(tmp_path: Path) -> None:
    records = many_records.write(tmp_path, 3)
    text = page.render(SweepDir(tmp_path), records, verdict.of(records), None)
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="', text)
    assert "Plotly" in text


def test_what_is_measured_is_drawn(render: Render, tmp_path: Path) -> None:
    records = many_records.write(tmp_path, 12)
    drawn = figures(render(*records))
    pareto = drawn["f0"]
    points = sum(len(trace["x"]) for trace in pareto["data"] if trace["mode"] == "markers")
    assert points == sum(len(record.levels) for record in records if record.phase == "search")
    assert pareto["layout"]["shapes"][0]["x0"] == 1.0  # the SLO's line
    steps = [trace for trace in drawn.values() if trace["layout"].get("barmode") == "overlay"]
    assert [trace["name"] for trace in steps[0]["data"]] == ["wait", "load", "measure", "end"]  # as they follow


def knobs(count: int, trials: int) -> list[Record]:
    """A baseline and others that set every second one of so many knobs."""
    made = []
    for number in range(trials):
        setting = {f"knob_{at}": number if number and at % 2 else None for at in range(count)}
        words = tuple(f"{name}={'null' if seen is None else seen}" for name, seen in setting.items())
        kinds = {name: {"kind": "int", "flag": "--x", "help": "x", "minimum": 0} for name in setting}
        config = make_config(runtime={**CONFIG["runtime"], "knobs": kinds}, knobs=setting)
        score = {"output_tokens_per_s": 100.0 + number}
        made.append(make_record(number=number, config=config, overrides=words, is_baseline=not number, objective=score))
    return made


def test_knobs_that_are_left_to_the_engine_are_left_out_of_the_page(render: Render) -> None:
    text = render(*knobs(4, 2))
    assert ">defaults</td>" in text
    assert ">knob_1=1 knob_3=1</td>" in text
    assert "Recommended: knob_1=1 knob_3=1" in text
    assert "=null" not in text
    assert "Recommended: the defaults" in render(*knobs(4, 1))


def test_columns_that_nobody_has_anything_in_are_left_out(render: Render) -> None:
    ranking, _, _ = render(*knobs(1, 2)).partition("<h2>Level by level")
    assert ">overrides</th>" in ranking
    assert ">SLO met</th>" not in ranking


def test_many_trials_of_a_knob_are_boxes_and_the_knobs_that_matter_most_come_first(render: Render) -> None:
    few, many = (figures(render(*knobs(4, count))) for count in (20, plots.MANY + 2))
    assert [trace["type"] for figure in few.values() for trace in figure["data"]].count("box") == 0
    boxes = [trace for figure in many.values() for trace in figure["data"] if trace["type"] == "box"]
    assert len(boxes) == 2
    assert len(boxes[0]["x"]) == len(boxes[0]["y"]) == plots.MANY + 2
    text = render(*knobs(20, 20))
    assert "Knob by knob: the 8 that matter most of 10" in headings(text)


def test_a_legend_has_one_line_for_each_configuration_however_many_knobs_it_sets(render: Render) -> None:
    drawn = figures(render(*knobs(40, 3)))
    names = {trace.get("name", "") for figure in drawn.values() for trace in figure["data"]}
    assert max(map(len, names)) <= plots.LINE + len(" (baseline)")
    hovers = [text for trace in drawn["f0"]["data"] for text in trace.get("text", [])]
    assert max(len(line) for text in hovers for line in text.split("<br>")) <= plots.LINE


def test_numbers_of_users_that_are_close_to_each_other_share_a_tick(render: Render) -> None:
    """As where a capacity is looked for."""
    (first, _) = make_levels()
    levels = tuple(replace(first, concurrency=users) for users in (1, 2, 4, 8, 16, 32, 38, 41, 43, 45, 64))
    drawn = figures(render(make_record(levels=levels)))
    ticks = next(each for trace in drawn.values() if (each := trace["layout"]["xaxis"].get("tickvals")))
    assert ticks == [1, 2, 4, 8, 16, 32, 45, 64]


def test_words_of_others_stay_words(render: Render) -> None:
    nasty = "</script><img src=x onerror=alert(1)>"
    failed = make_failed_record(number=1, overrides=(f"x={nasty}",), failure=make_failure(message=nasty, hint=nasty))
    fine = make_record(number=0, overrides=(f"x={nasty}",), notes=(nasty,))
    text = render(fine, failed)
    assert "<img" not in text
    assert "&lt;/script&gt;&lt;img" in text
    assert figures(text)


def test_notes_that_differ_in_numbers_alone_are_told_once(render: Render) -> None:
    crowded = "D(64,16) x{}: crowded: other processes used {} of 2 cores"
    made = [
        make_record(number=number, notes=(crowded.format(users, cores), "warned: another thing"))
        for number, users, cores in ((0, 1, 1.5), (1, 1, 1.5), (2, 4, 0.7))
    ]
    text = render(*made)
    assert (
        '<p>D(64,16) x1: crowded: other processes used 1.5 of 2 cores <span class="dim">trials 0, 1, 2</span></p>'
        in text
    )
    assert "1 more like it</summary><p>D(64,16) x4: crowded: other processes used 0.7 of 2 cores (trial 2)</p>" in text
    assert text.count("warned: another thing") == 1


def test_the_page_says_first_what_to_set_on_what_and_under_which_load(render: Render) -> None:
    best = make_record(number=1, objective={"output_tokens_per_s": 200.0}, overrides=("page_size=64",))
    text = render(make_record(number=0, is_baseline=True, overrides=("page_size=null",)), best)
    assert "<title>tiny on llamacpp · servetune</title>" in text
    assert re.search(r'class="headline">\s*<p>Recommended: page_size=64</p>', text)
    assert '<p class="dim">cpu; traffic quick: D(64,16), 1 to 2 users at a time</p>' in text


def test_secrets_in_logs_are_hidden(render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret_word")
    run_dir = RunDir(tmp_path / "1")
    run_dir.path.mkdir()
    run_dir.server_log.write_text("token=hf_very_secret_word\n")
    text = render(make_record(number=0), make_failed_record(number=1))
    assert "token=[redacted]" in text
    assert "hf_very_secret_word" not in text


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_sweeps_make_no_claims(render: Render, tmp_path: Path, count: int) -> None:
    text = render(*many_records.write(tmp_path, count, confirm=0))
    assert "No knob importance: it needs 8 configurations" in text
    assert "better by" not in text


def test_a_sweep_in_which_all_failed_has_a_page(render: Render) -> None:
    text = render(*(make_failed_record(number=number) for number in range(3)))
    assert "No trial has a result." in text
    assert headings(text) == ["Ranking", "Where the time went", "What failed", "Environment"]


def test_a_latency_as_the_objective(render: Render) -> None:
    found = [make_record(number=number, objective={"ttft_p95_s": 0.1 * (number + 1)}) for number in range(2)]
    config = replace(found[0].config, objective=("ttft_p95_s",))
    text = render(*(replace(record, config=config) for record in found))
    assert "TTFT p95 (s) (in the search, once)" in text


def test_the_summaries_have_a_line_for_each_level(tmp_path: Path) -> None:
    records = many_records.write(tmp_path, 12)
    sweep = SweepDir(tmp_path)
    export.write(sweep, records)
    for frame in (pd.read_csv(sweep.summary_csv), pd.read_parquet(sweep.summary_parquet)):
        assert len(frame) == sum(max(1, len(record.levels)) for record in records)
        assert {"trial", "phase", "repeat_of", "knob.page_size", "scenario", "ttft_p95_s", "failure"} <= {
            *frame.columns
        }
        assert set(frame[frame["status"] == "failed"]["failure"]) == {"oom_gpu"}
        assert frame["output_tokens_per_s"].dtype.kind == "f"


def test_the_command_writes_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many_records.write(tmp_path, 3)
    sweep = SweepDir(tmp_path)
    assert report.main([str(tmp_path), "--no-html"]) == 0
    assert not sweep.report.exists()
    assert report.main([str(tmp_path)]) == 0
    assert all(path.exists() for path in (sweep.report, sweep.summary_csv, sweep.summary_parquet, sweep.best_dir))
    assert f"Report: {sweep.report}" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_costs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for record in (make_record(number=0), make_record(number=1)):
        run_dir = RunDir(tmp_path / str(record.number))
        run_dir.path.mkdir()
        save(run_dir.record, record)
    SweepDir(tmp_path).summary_csv.mkdir()
    assert report.main([str(tmp_path)]) == 0
    assert f"{SweepDir(tmp_path).summary_csv} cannot be written: Is a directory." in capsys.readouterr().err
    assert SweepDir(tmp_path).report.exists()


def test_evaluations_are_a_table_of_the_page_and_stand_on_the_card(tmp_path: Path) -> None:
    change = Change(name="sums exact_match", items=100, baseline=0.8, winner=0.7, difference=-0.1, half_width=0.06,
                    is_paired=True, is_higher_better=True)  # fmt: skip
    sweep = SweepDir(tmp_path)
    for record in (make_record(number=0, is_baseline=True), make_record(number=1, objective=SCORE)):
        sweep.trial(record.number).path.mkdir()
        save(sweep.trial(record.number).record, record)
    assert report.main([str(tmp_path)]) == 0
    assert "Evaluations" not in headings(sweep.report.read_text())
    assert "Evaluations" not in (sweep.best_dir / "card.md").read_text()
    (tmp_path / FOLDER).mkdir()
    save(tmp_path / FOLDER / evaluated.FILE, Evaluated(winner=1, baseline=0, changes=(change,)))
    assert report.main([str(tmp_path)]) == 0
    text = sweep.report.read_text()
    assert "Evaluations" in headings(text)
    cells = re.findall(r"<td data-title=\"[^\"]*\"[^>]*>([^<]*)</td>", text.partition("<h2>Evaluations</h2>")[2])
    assert cells[:7] == [
        "sums exact_match", "0.700", "0.800", "-0.100", "[-0.160, -0.040]", "100", "worse",
    ]  # fmt: skip
    told = load(Card, sweep.best_dir / "card.json")
    assert told.evaluations == (change,)
    assert f"- {change}" in (sweep.best_dir / "card.md").read_text()
    save(tmp_path / FOLDER / evaluated.FILE, Evaluated(winner=7, baseline=0, changes=(change,)))
    assert report.main([str(tmp_path)]) == 0
    assert "Evaluations" not in headings(sweep.report.read_text())  # of a winner that is none any more
