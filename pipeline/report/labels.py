"""Metrics in words and units, as people read them in titles and on axes. Pure."""

from pipeline.core.metric_names import COST, JOULES, LATENCIES, STATS
from pipeline.core.schema import Config, Slo
from pipeline.core.schema_traffic import Traffic

WORDS = {
    "requests_per_s": "requests/s",
    "output_tokens_per_s": "output tokens/s",
    "input_tokens_per_s": "input tokens/s",
    "total_tokens_per_s": "input and output tokens/s",
    "goodput_requests_per_s": "goodput: requests/s",
    "goodput_output_tokens_per_s": "goodput: output tokens/s",
    "slo_attainment": "share of requests inside the SLO",
    COST: "US dollars per million output tokens",
    JOULES: "joules per output token",
    "tokens_per_s_per_watt": "output tokens/s per watt",
}
PER_GPU = "_per_gpu"
SECONDS = " (s)"


def metric(name: str, config: Config | None = None) -> str:
    """E.g. `goodput: requests/s per GPU` or `TTFT p95 (s)`. On a configuration without GPUs nothing is per GPU."""
    quantity, _, rest = name.partition("_")
    stat = rest.removesuffix("_s")
    if quantity in LATENCIES and stat in STATS:
        return f"{'E2E latency' if quantity == 'e2e' else quantity.upper()} {stat}{SECONDS}"
    bare = name.removesuffix(PER_GPU)
    is_shared = bare != name and (config is None or config.gpus > 0)
    return WORDS.get(bare, bare.replace("_per_", " per ").replace("_", " ")) + (" per GPU" if is_shared else "")


def demand(traffic: Traffic) -> str:
    """The unit in which the levels of a traffic differ."""
    return "requests/s" if traffic.is_open else "users at a time"


def slo(limits: Slo) -> str:
    """E.g. `TTFT ≤ 1 s, TPOT ≤ 0.1 s for 95% of the requests`; nothing without an SLO."""
    each = {"TTFT": limits.ttft_s, "TPOT": limits.tpot_s, "E2E": limits.e2e_s}
    found = ", ".join(f"{name} ≤ {limit:g} s" for name, limit in each.items() if limit is not None)
    told = [f"{found} for {limits.attainment:.0%} of the requests"] if found else []
    told += [_limit(metric(name), limit) for name, limit in limits.limits.items()]
    return " and ".join(told)


def _limit(words: str, limit: float) -> str:
    bare = words.removesuffix(SECONDS)
    return f"{bare} ≤ {limit:g}{' s' if bare != words else ''}"
