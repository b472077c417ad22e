"""Says what limits a trial, by stated rules over what was measured, and which knobs could move it. Pure.

The rules are asked in the order of `RULES`, and the first that applies is the answer; docs/why.md has them in words.
What the engine itself says of its queue and cache comes first: a slow load generator can only make them look better. A
rule that lacks a number does not apply: nothing is guessed. What helps is the runtime's own data (`relief`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.core import client, resolved
from pipeline.core.advice import Advice, Limit
from pipeline.core.record import EngineMetrics, Level, LevelMetrics
from pipeline.core.schema import Config, is_of
from pipeline.models import memory, roofline

PREEMPTED = 0.01  # preemptions for each request
FULL = 0.95  # of the KV cache
WAITING = 0.1  # of the requests that were at the engine
PINNED = 0.75  # of the most that may run at once; where that is not known, of the most that did
MOSTLY = 0.5  # of a request's time
COMPUTING = 0.2  # of the arithmetic: below, something else keeps prefill slow
READING = 0.5  # of the bandwidth: well tuned engines reach 0.6 to 0.8
IDLE = 0.3  # of the time, of a GPU
ONE_CORE = 0.9  # of a core: a process of one thread cannot do more
CORES = 0.8  # of the cores


@dataclass(frozen=True)
class Case:
    """One level, with what the rules ask of it."""

    config: Config
    level: Level
    metrics: LevelMetrics
    settings: Mapping[str, Any] | None = None  # as the engine reports them

    @property
    def at_once(self) -> float | None:
        """How many requests may run at once, over all replicas: by the engine's word, else as asked; None: unknown."""
        told = {**self.config.knobs, **resolved.reported(self.config, self.settings)}
        limits = [told.get(name) for name in self.config.runtime.relief.get("queue", {})]
        known = [limit for limit in limits if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0]
        return min(known) * memory.parallelism(self.config, self.config.knobs).data if known else None

    @property
    def engine(self) -> EngineMetrics:
        """What the engine said; nothing, if it did not."""
        return self.level.engine_metrics or EngineMetrics(samples=0)

    @cached_property
    def prefill_share(self) -> float | None:
        """Of a request's time in the engine, without the queue: by the engine's word, else by the load generator's."""
        told = self.engine
        if told.prefill_mean_s is not None and told.decode_mean_s is not None:
            prefill, decode = told.prefill_mean_s, told.decode_mean_s
        elif self.metrics.ttft and self.metrics.e2e:
            prefill = max(0.0, self.metrics.ttft.mean - (told.queue_mean_s or 0.0))
            decode = self.metrics.e2e.mean - self.metrics.ttft.mean
        else:
            return None
        return prefill / (prefill + decode) if prefill + decode > 0 else None

    @cached_property
    def bandwidth(self) -> float | None:
        """Share of the memory's."""
        return roofline.bandwidth_share(self.config, self.level)

    @cached_property
    def arithmetic(self) -> float | None:
        """Share of the GPUs'."""
        return roofline.arithmetic_share(self.config, self.level)


Rule = Callable[[Case], str | None]  # why it applies, in numbers; None: it does not


def advice(
    config: Config, levels: Sequence[Level], best: Level | None, settings: Mapping[str, Any] | None = None
) -> Advice | None:
    """What limits the level that gave the objective, else the busiest one; None where none was measured."""
    measured = [level for level in levels if level.metrics]
    level = best or max(measured, key=lambda one: one.demand, default=None)
    if level is None or level.metrics is None:
        return None
    case = Case(config, level, level.metrics, settings)
    for limit, rule in RULES.items():
        if because := rule(case):
            return Advice(limit=limit, level=level.name, because=because, knobs=knobs(config, limit))
    return Advice(limit="unknown", level=level.name, because=_unknown(case))


def knobs(config: Config, limit: Limit) -> dict[str, str]:
    """The knobs that can move a limit, with what to do: those that this version of the engine has."""
    runtime = config.runtime
    known = {name for name, knob in runtime.knobs.items() if is_of(knob.versions, runtime.version)}
    return {name: what for name, what in runtime.relief.get(limit, {}).items() if name in known}


def _client(case: Case) -> str | None:
    if case.level.client is None:
        return None
    return next((f"it {said}" for _, said in client.passed(case.level.client, case.metrics.ttft)), None)


def _kv(case: Case) -> str | None:
    told, begun = case.engine, max(1, case.metrics.num_begun or case.metrics.num_requests)
    if told.preemptions is not None and told.preemptions >= PREEMPTED * begun and told.preemptions:
        return f"{told.preemptions} preemptions in {begun} requests"
    if told.kv_use_max is not None and told.kv_use_max > FULL and told.waiting_max != 0:
        return f"it was {told.kv_use_max:.0%} full at most"
    return None


def _queue(case: Case) -> str | None:
    """Only where as many run as may: else they wait for something else, e.g. for their turn to be prefilled."""
    told, limit = case.engine, case.at_once
    if told.waiting_mean is None or told.running_mean is None or told.running_max is None:
        return None
    there = told.waiting_mean + told.running_mean
    is_pinned = told.running_mean >= PINNED * told.running_max if limit is None else told.running_max >= PINNED * limit
    if not there or told.waiting_mean < WAITING * there or not is_pinned:
        return None
    return (
        f"{told.waiting_mean:.1f} of {there:.1f} requests waited, on average, while {told.running_max:.0f} ran at most"
    )


def _prefill(case: Case) -> str | None:
    share, computing = case.prefill_share, case.arithmetic
    if share is None or share <= MOSTLY or (computing is not None and computing < COMPUTING):
        return None
    much = "" if computing is None else f", at {computing:.0%} of the GPUs' arithmetic"
    return f"{share:.0%} of a request's time is prefill{much}"


def _bandwidth(case: Case) -> str | None:
    share = case.bandwidth
    if share is None or share < READING or (case.prefill_share or 0.0) > MOSTLY:
        return None
    return f"decoding takes {share:.0%} of the GPUs' bandwidth"


def _host(case: Case) -> str | None:
    """The GPUs wait for the CPU: they have nothing to do, or a process of the engine keeps its one core busy."""
    hardware, load = case.level.hardware, case.level.load
    busy = [gpu.utilisation for gpu in hardware.gpus if gpu.utilisation is not None] if hardware else []
    if busy and 1 - sum(busy) / len(busy) > IDLE:
        return f"the GPUs had nothing to do for {1 - sum(busy) / len(busy):.0%} of the time"
    near = [share for share in (case.bandwidth, case.arithmetic) if share is not None]
    is_one_core = load is not None and load.busiest_cores is not None and load.busiest_cores >= ONE_CORE
    if case.config.gpus and load is not None and is_one_core and near and max(near) < READING:
        return f"a process of the engine kept {load.busiest_cores:.1f} cores busy, the GPUs at {max(near):.0%}"
    return None


def _cores(case: Case) -> str | None:
    load = case.level.load
    if not case.config.hardware.is_cpu or load is None or load.engine_cores is None:
        return None
    if load.engine_cores < CORES * load.cores:
        return None
    return f"the engine kept {load.engine_cores:.1f} of {load.cores} cores busy"


def _unknown(case: Case) -> str:
    load = case.level.load
    missing = [
        *([f"other processes used {load.others_cores:.1f} of {load.cores} cores"] if load and load.is_crowded else []),
        *([] if case.engine.running_mean is not None else ["the engine's queue is not known"]),
        *([] if case.bandwidth is not None or not case.config.gpus else ["the model or the GPU is not known"]),
        *([] if case.level.load is not None else ["the engine's processes were not seen"]),
    ]
    return "; ".join(missing) or "no number is near its limit"


RULES: Mapping[Limit, Rule] = {
    "kv": _kv,
    "queue": _queue,
    "client": _client,
    "prefill": _prefill,
    "bandwidth": _bandwidth,
    "host": _host,
    "cores": _cores,
}
