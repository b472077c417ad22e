"""Reading what genai-bench wrote: a real result of genai-bench 0.0.5, and everything it may leave instead."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import results
from pipeline.core.errors import BenchFailed
from pipeline.core.plan import LevelPlan
from pipeline.core.requests import Request

REAL = Path(__file__).parent / "D48_16_text-to-text_num_concurrency_1_time_4s.json"
NAME = "D48_16_text-to-text_num_concurrency_1_time_4s.json"
ANSWERED = {"ttft": 0.2, "tpot": 0.02, "e2e_latency": 0.5, "num_input_tokens": 48, "num_output_tokens": 16}
LEVEL = LevelPlan(scenario="D(48,16)", concurrency=1, max_requests=2, max_time_s=9.0, seed=0, output_tokens_asked=16.0)
FAILED = {"error_code": 503, "error_message": "Service Unavailable", "ttft": None}


def written(folder: Path, *requests: Any, name: str = NAME, duration: Any = 2.0, **top: Any) -> Path:
    data = {"aggregated_metrics": {"run_duration": duration}, "individual_request_metrics": requests, **top}
    (folder / name).write_text(json.dumps(data))
    return folder / name


def test_a_real_result_is_read() -> None:
    seen = results.read(REAL)
    assert seen.run_duration_s == 4.773399304000122
    assert len(seen.requests) == 3
    assert seen.requests[0] == Request(
        ttft_s=0.2991357179998886,
        tpot_s=0.029962808600006004,
        e2e_s=0.7485778469999786,
        input_tokens=72,
        output_tokens=16,
    )


@pytest.mark.parametrize(
    ("unit", "scale"),
    [({"_time_unit": "s"}, 1.0), ({"_time_unit": "ms"}, 0.001), ({}, 1.0)],
    ids=["seconds", "milliseconds", "not-said"],
)
def test_times_are_in_seconds(tmp_path: Path, unit: dict[str, str], scale: float) -> None:
    seen = results.read(written(tmp_path, {**ANSWERED, "error_code": None}, duration=8.0, **unit))
    assert seen.run_duration_s == pytest.approx(8.0 * scale)
    (request,) = seen.requests
    assert [request.ttft_s, request.tpot_s, request.e2e_s] == pytest.approx([0.2 * scale, 0.02 * scale, 0.5 * scale])
    assert (request.input_tokens, request.output_tokens) == (48, 16)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (FAILED, {"ending": "failed", "cause": "503", "words": "Service Unavailable"}),
        ({"ttft": 0.1}, {"ttft_s": 0.1}),
        (
            {**ANSWERED, "tpot": None},
            {"ttft_s": 0.2, "e2e_s": 0.5, "input_tokens": 48, "output_tokens": 16, "is_in_one_piece": True},
        ),
        ({"num_input_tokens": None, "num_output_tokens": None}, {}),
        ({"ttft": 0.0}, {"ttft_s": 0.0}),
    ],
    ids=["failed", "only-ttft", "no-tpot", "null-tokens", "zero-is-a-time"],
)
def test_what_a_request_does_not_have_stays_unknown(
    tmp_path: Path, item: dict[str, Any], expected: dict[str, Any]
) -> None:
    nothing = {"ttft_s": None, "tpot_s": None, "e2e_s": None, "input_tokens": 0, "output_tokens": 0}
    assert results.read(written(tmp_path, item)).requests == (Request(**{**nothing, **expected}),)


def test_a_run_without_a_duration_lasted_no_time(tmp_path: Path) -> None:
    assert results.read(written(tmp_path, FAILED, duration=None)).run_duration_s == 0.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSONDecodeError"),
        ('{"aggregated_metrics"', "JSONDecodeError"),
        ("[]", "AttributeError"),
        ("{}", "KeyError: 'individual_request_metrics'"),
        ('{"individual_request_metrics": [], "_time_unit": "h"}', "KeyError: 'h'"),
        ('{"individual_request_metrics": [3]}', "AttributeError"),
        ('{"individual_request_metrics": [], "aggregated_metrics": null}', "TypeError"),
        ('{"individual_request_metrics": [{"ttft": "soon"}], "aggregated_metrics": {"run_duration": 1}}', "TypeError"),
        ('{"individual_request_metrics": [], "aggregated_metrics": {"run_duration": "1"}}', "TypeError"),
        (b"\xff\xfe\x00garbage", "Cannot read"),
    ],
    ids=[
        "empty", "cut-off", "list", "no-requests", "unknown-unit", "no-request", "no-aggregate", "text-for-time",
        "text-for-duration", "binary",
    ],
)  # fmt: skip
def test_anything_else_is_a_failed_level_that_names_the_file(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = tmp_path / NAME
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BenchFailed, match=f"Cannot read {path}: ") as caught:
        results.read(path)
    assert words in str(caught.value)


def test_a_result_that_is_gone_is_a_failed_level(tmp_path: Path) -> None:
    with pytest.raises(BenchFailed, match="FileNotFoundError"):
        results.read(tmp_path / NAME)


def test_the_result_is_found_among_genai_benchs_other_files(tmp_path: Path) -> None:
    for name in ("experiment_metadata.json", "console.log", "debug_for_run_D48_16_1.json"):
        (tmp_path / name).write_text("{}")
    path = written(tmp_path, ANSWERED)
    assert results.result_file(tmp_path) == path


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "genai-bench wrote no result to "),
        (["experiment_metadata.json"], "no request finished in time."),
        ([NAME, NAME.replace("4s", "5s")], "Expected one result file in "),
    ],
    ids=["empty-folder", "only-metadata", "two"],
)
def test_there_must_be_one_result(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(BenchFailed, match=words):
        results.result_file(tmp_path)


def test_a_run_that_could_not_be_aggregated_is_in_the_debug_file(tmp_path: Path) -> None:
    written(tmp_path, FAILED, FAILED, name="debug_for_run_D48_16_4.json", duration=None)
    seen, _ = results.of(tmp_path, LEVEL)
    assert [(request.ending, request.cause) for request in seen.requests] == [("failed", "503")] * 2


def test_requests_that_the_command_does_not_count_are_said_to_be_missing(tmp_path: Path) -> None:
    written(tmp_path, ANSWERED, FAILED)
    seen, _ = results.of(tmp_path, replace(LEVEL, max_requests=5))
    assert (seen.planned, seen.is_cut) == (5, True)
    assert seen.notes[0].startswith("3 of 5 requests are in no count of the genai-bench command")


def test_requests_that_the_commands_parser_lost_are_found_in_its_log(tmp_path: Path) -> None:
    written(tmp_path, ANSWERED)
    lines = ["ERROR    2026-11-30 - locust.user.task:run - 'choices'", "Traceback (most recent call last):", "KeyError"]
    (tmp_path / "console.log").write_text("\n".join(lines))
    seen, _ = results.of(tmp_path, LEVEL)
    assert [(one.ending, one.words) for one in seen.requests] == [("answered", None), ("unreadable", "'choices'")]
    assert not seen.is_cut


def test_the_command_tells_a_short_answer_where_the_length_was_fixed(tmp_path: Path) -> None:
    written(tmp_path, {**ANSWERED, "num_output_tokens": 3})
    seen, _ = results.of(tmp_path, replace(LEVEL, max_requests=1, output_tokens_exact=16))
    assert (seen.requests[0].fault, seen.is_cut) == ("3 of 16 tokens", False)
