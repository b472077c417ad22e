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
    "tokens_per_s_per_watt",
)
COST = "usd_per_million_output_tokens"
JOULES = "joules_per_output_token"
ENERGY = (JOULES, "tokens_per_s_per_watt")  # there where the hardware has a sensor of its power
PER_GPU = tuple(name for name in MAXIMISED if name.endswith("_per_s"))


def known_metrics() -> tuple[str, ...]:
    """Every name that `objective` takes."""
    latencies = tuple(f"{quantity}_{stat}_s" for quantity in LATENCIES for stat in STATS)
    return ("auto", *MAXIMISED, *(f"{name}_per_gpu" for name in PER_GPU), COST, JOULES, *latencies)
