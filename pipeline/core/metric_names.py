"""What the metrics are called. Imports nothing, so that a shell can complete the names at once."""

STATS = ("mean", "p50", "p90", "p95", "p99")
LATENCIES = ("ttft", "tpot", "e2e")
MAXIMISED = (
    "requests_per_s",
    "output_tokens_per_s",
    "input_tokens_per_s",
    "total_tokens_per_s",
    "goodput_requests_per_s",
    "goodput_output_tokens_per_s",
    "slo_attainment",
)
COST = "usd_per_million_output_tokens"
PER_GPU = tuple(name for name in MAXIMISED if name.endswith("_per_s"))


def known_metrics() -> tuple[str, ...]:
    """Every name that `objective` takes."""
    latencies = tuple(f"{quantity}_{stat}_s" for quantity in LATENCIES for stat in STATS)
    return ("auto", *MAXIMISED, *(f"{name}_per_gpu" for name in PER_GPU), COST, *latencies)
