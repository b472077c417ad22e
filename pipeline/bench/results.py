"""Reads what a level left: our ledger of its requests, or what aiperf or the plain genai-bench command wrote.

Source: genai-bench 0.0.5, metrics/aggregated_metrics_collector.py `save`. Its files leave out requests that were open
at the end, and those whose answer its parser could not read; locust logs the latter (locust/user/task.py `run`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.bench import aiperf_export, ledger
from pipeline.bench.command import CONSOLE
from pipeline.bench.stream import clean
from pipeline.core.errors import BenchFailed
from pipeline.core.plan import LevelPlan
from pipeline.core.requests import Measurement, Request, is_burst

RESULT = "*_time_*s.json"
RAISED = re.compile(r"locust\.user\.task:run - (?P<words>.+)")
DEBUG = "debug_for_run_*.json"  # written instead of a result when genai-bench cannot aggregate


def of(folder: Path, level: LevelPlan) -> tuple[Measurement, Path]:
    """What a level measured, and the file that says so.

    Raises:
        BenchFailed: there is none; the message says what genai-bench saw, if it left that.
    """
    path = folder / ledger.NAME
    if seen := ledger.read(path):
        return seen, path
    if by_aiperf := aiperf_export.read(folder, level):
        return replace(
            by_aiperf, requests=tuple(_shaped(one, level) for one in by_aiperf.requests)
        ), folder / aiperf_export.NAME
    path = result_file(folder)
    seen = read(path)
    return _planned(replace(seen, requests=(*seen.requests, *_unreadable(folder / CONSOLE))), level), path


def result_file(folder: Path) -> Path:
    """The one result that genai-bench wrote of a level.

    Raises:
        BenchFailed: there is none.
    """
    found = sorted(folder.glob(RESULT)) or sorted(folder.glob(DEBUG))
    if len(found) == 1:
        return found[0]
    if found:
        raise BenchFailed(f"Expected one result file in {folder}, found {len(found)}.")
    raise BenchFailed(f"genai-bench wrote no result to {folder}: no request finished in time.")


def read(path: Path) -> Measurement:
    """The requests of a result or debug file, times in seconds.

    Raises:
        BenchFailed: the file is not what genai-bench 0.0.5 writes.
    """
    try:
        data = json.loads(path.read_bytes())
        scale = {"s": 1.0, "ms": 0.001}[data.get("_time_unit", "s")]
        requests = tuple(_request(item, scale) for item in data["individual_request_metrics"])
        duration = (data["aggregated_metrics"]["run_duration"] or 0.0) * scale
        return Measurement(run_duration_s=duration, requests=requests)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchFailed(f"Cannot read {path}: {type(error).__name__}: {error}") from error


def _unreadable(console: Path) -> Iterator[Request]:
    """The requests of the plain command that vanished where its parser raised."""
    text = console.read_text("utf-8", errors="replace") if console.is_file() else ""
    for found in RAISED.finditer(text):
        nothing = Request(ttft_s=None, tpot_s=None, e2e_s=None, input_tokens=0, output_tokens=0)
        yield replace(nothing, ending="unreadable", cause="unreadable", words=clean(found["words"]))


def _planned(seen: Measurement, level: LevelPlan) -> Measurement:
    """Beside the plan: the command does not say what became of requests that it does not count."""
    requests = tuple(_shaped(request, level) for request in seen.requests)
    missing = level.max_requests - len(requests)
    note = (
        f"{missing} of {level.max_requests} requests are in no count of the genai-bench command: open at the end, "
        "or lost; bench.runner=resident tells them apart"
    )
    notes = (note,) if missing > 0 else ()
    return replace(seen, requests=requests, planned=level.max_requests, is_cut=missing > 0, notes=notes)


def _shaped(request: Request, level: LevelPlan) -> Request:
    """As far as the file tells: the number of tokens where it was fixed; finish reasons are not in it."""
    asked = level.output_tokens_exact
    if request.ending == "answered" and asked and request.output_tokens < asked:
        return replace(request, fault=f"{request.output_tokens} of {asked} tokens", asked_tokens=asked)
    return request


def _request(item: Mapping[str, Any], scale: float) -> Request:
    def time(name: str) -> float | None:
        return None if item.get(name) is None else item[name] * scale

    code, tokens = item.get("error_code"), item.get("num_output_tokens") or 0
    ttft_s, tpot_s, e2e_s = time("ttft"), time("tpot"), time("e2e_latency")
    span_s = (e2e_s or 0.0) - (ttft_s or 0.0)
    is_fast = tpot_s is None or is_burst(pieces=tokens, span_s=span_s, e2e_s=e2e_s or 0.0)
    at_once = code is None and tokens > 1 and is_fast
    return Request(
        ttft_s=ttft_s,
        tpot_s=None if at_once else tpot_s,
        e2e_s=e2e_s,
        input_tokens=item.get("num_input_tokens") or 0,
        output_tokens=tokens,
        ending="answered" if code is None else "failed",
        cause=None if code is None else str(code),
        words=item.get("error_message") or None,
        is_in_one_piece=at_once,
    )
