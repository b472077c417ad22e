"""The report's page and its summaries, from made-up sweeps."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.record import Record
from pipeline.report import __main__ as report
from pipeline.report import export, page, verdict
from support import many_records
from support.records import make_failed_record, make_failure, make_record

Render = Callable[..., str]


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
        "Ranking", "Throughput against latency", "Over the load: the best 5 and the baseline", "Which knobs matter",
        "Knob by knob", "The search over time", "Where the time went", "What failed", "Environment",
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


def test_words_of_others_stay_words(render: Render) -> None:
    nasty = "</script><img src=x onerror=alert(1)>"
    failed = make_failed_record(number=1, overrides=(f"x={nasty}",), failure=make_failure(message=nasty, hint=nasty))
    fine = make_record(number=0, overrides=(f"x={nasty}",), notes=(nasty,))
    text = render(fine, failed)
    assert "<img" not in text
    assert "&lt;/script&gt;&lt;img" in text
    assert figures(text)


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
    assert "ttft_p95_s" in text


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
