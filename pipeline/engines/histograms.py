"""Reads an engine's own latency histograms, as Prometheus text: what the engine measured, without our client.

Source: vllm 0.32.0 v1/metrics/loggers.py:930-960, on by default; sglang 0.5.23 srt/observability/metrics_collector.py,
with --enable-metrics. Both take a request's times where its answer is made, before it is sent.
"""

import re
from collections.abc import Mapping, Sequence

import requests

from pipeline.core.engine_times import Reading, Sum
from pipeline.core.schema_engine import Tells
from pipeline.engines.http import QUICK_S, session

_LINE = re.compile(r"^(?P<name>[\w:]+)_(?P<part>sum|count)(?:\{[^}]*\})? (?P<number>\S+)", re.MULTILINE)


def read(url: str, tells: Tells) -> Reading | None:
    """The histograms at this moment; None where the engine has none or does not answer. Never an error."""
    if tells.metrics_path is None:
        return None
    try:
        with session() as http:
            answer = http.get(f"{url}{tells.metrics_path}", timeout=QUICK_S)
        answer.raise_for_status()
        found = parse(answer.text)
    except (requests.RequestException, ValueError):
        return None
    return Reading(ttft=_first(found, tells.ttft), tpot=_first(found, tells.tpot))


def parse(text: str) -> dict[str, Sum]:
    """Every histogram by name: sums and counts over all its labels, so over all engines of a server.

    Raises:
        ValueError: a number is none.
    """
    found: dict[str, Sum] = {}
    for line in _LINE.finditer(text):
        seen, number = found.get(line["name"], Sum(seconds=0.0, count=0)), float(line["number"])
        more = {"seconds": number} if line["part"] == "sum" else {"count": int(number)}
        found[line["name"]] = Sum(
            seconds=seen.seconds + more.get("seconds", 0.0), count=seen.count + int(more.get("count", 0))
        )
    return found


def _first(found: Mapping[str, Sum], names: Sequence[str]) -> Sum | None:
    return next((found[name] for name in names if name in found), None)
