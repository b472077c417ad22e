"""What the stand-ins tell at /metrics, as prometheus_client prints it."""

from collections.abc import Mapping


def as_text(numbers: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """Each number with its labels; a name that ends in `_sum` has its `_count` beside it."""
    told = ",".join(f'{name}="{label}"' for name, label in labels.items())
    return "".join(f"{name}{{{told}}} {float(number)}\n" for name, number in numbers.items())


def histogram(name: str, seconds: float, count: float) -> dict[str, float]:
    """Its sum and its count; nobody reads the buckets."""
    return {f"{name}_sum": seconds, f"{name}_count": count}
