"""Reading what genai-bench wrote. Source: genai-bench 0.0.5, metrics/aggregated_metrics_collector.py `save`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import BenchFailed
from pipeline.core.metrics import Measurement, Request

RESULT = "*_time_*s.json"
DEBUG = "debug_for_run_*.json"  # written instead of a result when genai-bench cannot aggregate


def result_file(folder: Path) -> Path:
    """The one result of a level.

    Raises:
        BenchFailed: there is none; the message says what genai-bench saw, if it left that.
    """
    found = sorted(folder.glob(RESULT))
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


def debug(folder: Path) -> Measurement | None:
    """The requests of a run that genai-bench could not aggregate, e.g. because every one failed."""
    found = sorted(folder.glob(DEBUG))
    return read(found[0]) if found else None


def _request(item: Mapping[str, Any], scale: float) -> Request:
    def time(name: str) -> float | None:
        return None if item.get(name) is None else item[name] * scale

    return Request(
        ttft_s=time("ttft"),
        tpot_s=time("tpot"),
        e2e_s=time("e2e_latency"),
        input_tokens=item.get("num_input_tokens") or 0,
        output_tokens=item.get("num_output_tokens") or 0,
        error_code=item.get("error_code"),
    )
