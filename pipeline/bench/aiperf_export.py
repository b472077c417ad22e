"""Reads what aiperf wrote of each request of a level.

Source: aiperf 0.13.0, common/models/record_models.py `MetricRecordInfo`, one a line of profile_export.jsonl. Times in
its metadata are nanoseconds of the wall clock, its metrics carry their unit.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core import arrivals
from pipeline.core.arrivals import Span
from pipeline.core.errors import BenchFailed
from pipeline.core.plan import LevelPlan
from pipeline.core.requests import Measurement, Request, is_burst

NAME = "profile_export.jsonl"
REQUESTS = "aiperf_requests.jsonl"  # what we asked it to send
NS, MS = 1e9, 1e3
Line = Mapping[str, Any]


def read(folder: Path, level: LevelPlan) -> Measurement | None:
    """The requests of a level; None where aiperf wrote no such file.

    Raises:
        BenchFailed: the file is not what aiperf 0.13.0 writes.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
        asked = [json.loads(line) for line in (folder / REQUESTS).read_text("utf-8").splitlines()]
        return _measurement([one for one in lines if one["metadata"]["benchmark_phase"] == "profiling"], asked, level)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BenchFailed(f"Cannot read {path}: {type(error).__name__}: {error}") from error


def _measurement(lines: Sequence[Line], asked: Sequence[Line], level: LevelPlan) -> Measurement:
    if not lines:
        raise BenchFailed("aiperf counted no request: none ended in time.")
    start_ns = min(line["metadata"]["request_start_ns"] for line in lines)
    end_ns = max(line["metadata"]["request_end_ns"] for line in lines)
    missing = level.max_requests - len(lines)
    note = f"{missing} of {level.max_requests} requests are in no count of aiperf: not sent in time, or lost"
    return Measurement(
        run_duration_s=(end_ns - start_ns) / NS,
        requests=tuple(_request(line, asked[line["metadata"]["session_num"]]) for line in lines),
        planned=level.max_requests,
        is_cut=missing > 0 or any(line["metadata"]["was_cancelled"] for line in lines),
        drain_s=level.drain_s,
        arrivals=arrivals.seen([*_spans(lines, asked, start_ns)], level.rate) if level.rate else None,
        notes=(note,) if missing > 0 else (),
    )


def _request(line: Line, asked: Line) -> Request:
    told, tokens = line["metadata"], int(asked["output_length"])
    if told["was_cancelled"] or line.get("error"):
        return _failed(line, tokens)
    ttft_s, e2e_s = _seconds(line, "time_to_first_token"), _seconds(line, "request_latency")
    output = int(_number(line, "usage_completion_tokens") or _number(line, "output_sequence_length") or 0)
    prompt = _number(line, "usage_prompt_tokens") or _number(line, "input_sequence_length") or 0
    cached = _number(line, "usage_prompt_cache_read_tokens")
    is_whole = output > 1 and _is_whole(line, e2e_s or 0.0)
    return Request(
        ttft_s=ttft_s,
        tpot_s=None if is_whole or output < 2 else _seconds(line, "inter_token_latency"),
        e2e_s=e2e_s,
        input_tokens=int(prompt),
        output_tokens=min(output, tokens),  # what a server counts beyond what was asked is no throughput
        is_in_one_piece=is_whole,
        asked_tokens=tokens,
        cached_tokens=None if cached is None else int(cached),
    )


def _failed(line: Line, tokens: int) -> Request:
    """What is open when the level is over, it cancels; everything else is the server's failure, with its words."""
    told, error = line["metadata"], line.get("error") or {}
    is_open = told["was_cancelled"]
    open_s = (told["request_end_ns"] - told["request_start_ns"]) / NS
    cause = str(error.get("code") or error.get("type") or "unknown")
    return Request(
        ttft_s=_seconds(line, "time_to_first_token"),
        tpot_s=None,
        e2e_s=None,
        input_tokens=0,
        output_tokens=0,
        ending="open" if is_open else "failed",
        cause=None if is_open else cause,
        words=None if is_open else str(error.get("message") or "")[:300] or None,
        open_s=open_s if is_open else 0.0,
        asked_tokens=tokens,
    )


def _is_whole(line: Line, e2e_s: float) -> bool:
    gaps = (line["metrics"].get("inter_chunk_latency") or {}).get("value") or []
    return is_burst(pieces=len(gaps) + 1, span_s=sum(gaps) / MS, e2e_s=e2e_s)


def _spans(lines: Sequence[Line], asked: Sequence[Line], start_ns: int) -> Iterator[Span]:
    """How late each was, against the first: aiperf does not say when its schedule began."""
    due_s = [each["timestamp"] / MS for each in asked]
    for line in lines:
        told = line["metadata"]
        sent_s, end_s = ((told[name] - start_ns) / NS for name in ("request_start_ns", "request_end_ns"))
        late_s = sent_s - (due_s[told["session_num"]] - due_s[0])
        yield Span(sent_s, None if told["was_cancelled"] else end_s, max(0.0, late_s))


def _number(line: Line, name: str) -> float | None:
    found = line["metrics"].get(name)
    return None if found is None else float(found["value"])


def _seconds(line: Line, name: str) -> float | None:
    found = line["metrics"].get(name)
    if found is None:
        return None
    return float(found["value"]) / {"s": 1.0, "ms": MS, "us": 1e6, "ns": NS}[found["unit"]]
