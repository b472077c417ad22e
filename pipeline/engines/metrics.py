"""Reads what an engine tells of its own work at /metrics: queue, KV cache, prefix cache, its own clock.

Which metric says what is data: `runtime.tells` in conf/runtime/. The latency histograms are what the engine measured,
without our client. Source: vllm 0.32.0 v1/metrics/loggers.py:930-960, on by default; sglang 0.5.23
srt/observability/metrics_collector.py, with --enable-metrics. Both take a request's times where its answer is made,
before it is sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields

from packaging.version import InvalidVersion, Version

from pipeline.core.engine_metrics import Reading
from pipeline.core.engine_times import Sum
from pipeline.core.schema import is_of
from pipeline.core.schema_engine import MetricNames, Series, Tells
from pipeline.engines import exposition
from pipeline.engines.exposition import Sample, Unanswered
from pipeline.engines.http import QUICK_S

GAUGES = ("running", "waiting", "kv_use", "accept_rate")
SHARES = ("kv_use", "accept_rate")  # of several engines, the highest
Index = Mapping[str, Sequence[Sample]]


def read(url: str, tells: Tells, version: str | None = None, *, timeout_s: float = QUICK_S) -> Reading | None:
    """What the engine tells at this moment; None where it has no such path. `version`: the engine's.

    Raises:
        Unanswered: it does not answer, or not with such text.
    """
    if tells.metrics_path is None:
        return None
    names = wanted(tells, version)
    text = exposition.fetch(f"{url}{tells.metrics_path}", timeout_s=timeout_s)
    all_names = {each.name for some in names.values() for each in some}
    try:
        found = exposition.samples(text, {f"{name}{part}" for name in all_names for part in ("", "_sum", "_count")})
    except ValueError as error:
        raise Unanswered(f"no Prometheus text: {error}") from error
    if not found:
        raise Unanswered("none of the metrics that are known of this engine")
    return _reading(found, names)


def wanted(tells: Tells, version: str | None) -> dict[str, tuple[Series, ...]]:
    """What to look for: the names of each quantity in this version of the engine, by preference."""
    named = {field.name: getattr(tells.metrics, field.name) for field in fields(MetricNames)}
    named |= {"ttft": tuple(Series(name=name) for name in tells.ttft)}
    named |= {"tpot": tuple(Series(name=name) for name in tells.tpot)}
    known = _known(version)
    return {quantity: tuple(one for one in series if is_of(one.versions, known)) for quantity, series in named.items()}


def _known(version: str | None) -> str | None:
    """None for what is no version: llama.cpp tells the number of a build."""
    try:
        return version if version is None else Version(version).public
    except InvalidVersion:
        return None


def _reading(found: Iterable[Sample], names: Mapping[str, Sequence[Series]]) -> Reading:
    by_name: dict[str, list[Sample]] = {}
    for one in found:
        by_name.setdefault(one.name, []).append(one)
    gauges: dict[str, float] = {}
    counters: dict[str, float] = {}
    times: dict[str, Sum] = {}
    for quantity, series in names.items():
        summed = next((sum_ for each in series if (sum_ := _sum(by_name, each))), None)
        number = next((seen for each in series if (seen := _number(by_name, each, quantity)) is not None), None)
        if summed is not None:
            times[quantity] = summed
        elif number is not None:
            (gauges if quantity in GAUGES else counters)[quantity] = number
    return Reading(gauges=gauges, counters=counters, times=times)


def _sum(by_name: Index, series: Series) -> Sum | None:
    """A histogram: sums and counts over all labels, so over all engines of a server."""
    seconds, count = (_matching(by_name, f"{series.name}{part}", series) for part in ("_sum", "_count"))
    if not count:
        return None
    return Sum(seconds=sum(one.number for one in seconds), count=int(sum(one.number for one in count)))


def _number(by_name: Index, series: Series, quantity: str) -> float | None:
    """Over all engines of a server; of processes that tell the same, once."""
    found = _matching(by_name, series.name, series)
    highest: dict[frozenset[tuple[str, str]], float] = {}
    for one in found:
        who = frozenset((name, text) for name, text in one.labels.items() if name not in series.copies)
        highest[who] = max(one.number, highest.get(who, one.number))
    if not highest:
        return 0.0 if series.starts_absent else None
    return max(highest.values()) if quantity in SHARES else sum(highest.values())


def _matching(by_name: Index, name: str, series: Series) -> list[Sample]:
    return [one for one in by_name.get(name, ()) if series.labels.items() <= one.labels.items()]
