"""How far the levels of a sweep are from the SLO that none of them meets. Pure."""

from collections.abc import Iterator, Sequence

from pipeline.core import metrics
from pipeline.core.record import LevelMetrics, Record
from pipeline.core.schema import Slo
from pipeline.core.values import value

PERCENTILES = (0.5, 0.9, 0.95, 0.99)
FACTOR = 10.0  # from here on, times are easier to read than percent


@value
class Miss:
    """One limit of the SLO that a level misses."""

    name: str  # e.g. slo.tpot_s
    limit: float
    quantity: str  # what was measured, e.g. TPOT p90
    seen: float | None  # None: it could not be measured
    share: float  # by how much of the limit

    def __str__(self) -> str:
        """E.g. `slo.tpot_s=0.009 by 12% (TPOT p90 is 0.0101)`."""
        if self.seen is None:
            return f"{self.name}={self.limit:g} ({self.quantity} could not be measured)"
        much = f"{self.share:.0%}" if self.share < FACTOR else f"a factor of {self.share + 1:.0f}"
        return f"{self.name}={self.limit:g} by {much} ({self.quantity} is {self.seen:.4g})"


@value
class Closest:
    """The level that misses the SLO by least."""

    number: int
    level: str
    misses: tuple[Miss, ...]  # the worst first

    def __str__(self) -> str:
        """E.g. `misses slo.tpot_s=0.009 by 12% (TPOT p90 is 0.0101), at D(24,16) x2`."""
        return f"misses {' and '.join(map(str, self.misses))}, at {self.level}"


def of(records: Sequence[Record]) -> Closest | None:
    """The closest level of all trials; None where no level was measured."""
    found = [
        Closest(number=record.number, level=level.name, misses=missed)
        for record in records
        for level in record.levels
        if level.metrics and (missed := misses(level.metrics, record.config.slo))
    ]
    return min(found, key=lambda one: one.misses[0].share, default=None)


def misses(seen: LevelMetrics, slo: Slo) -> tuple[Miss, ...]:
    """What a level misses, the worst first."""
    found = [*_limits(seen, slo)]
    if seen.error_rate > slo.max_error_rate:
        over = seen.error_rate / slo.max_error_rate - 1 if slo.max_error_rate else float("inf")
        found.append(_miss("slo.max_error_rate", slo.max_error_rate, "the error rate", seen.error_rate, over))
    if not found and seen.slo_attainment is not None and seen.slo_attainment < slo.attainment:
        short = 1 - seen.slo_attainment / slo.attainment
        found.append(_miss("slo.attainment", slo.attainment, "the share inside the limits", seen.slo_attainment, short))
    return tuple(sorted(found, key=lambda one: -one.share))


def _miss(name: str, limit: float, quantity: str, seen: float | None, share: float) -> Miss:
    return Miss(name=name, limit=limit, quantity=quantity, seen=seen, share=share)


def _limits(seen: LevelMetrics, slo: Slo) -> Iterator[Miss]:
    """Limits for each request, at the percentile of the share that must meet them; then those on metrics."""
    flat = metrics.flatten(seen)
    part = next((f"p{share * 100:.0f}" for share in PERCENTILES if share >= slo.attainment), "p99")
    asked = {f"{name}_{part}_s": (f"slo.{name}_s", getattr(slo, f"{name}_s")) for name in ("ttft", "tpot", "e2e")}
    asked |= {name: (f"slo.limits.{name}", limit) for name, limit in slo.limits.items()}
    for name, (key, limit) in asked.items():
        if limit is None:
            continue
        quantity, stat, _ = name.split("_")
        words = f"{quantity.upper()} {stat}"
        if name not in flat:
            yield _miss(key, limit, words, None, float("inf"))
        elif flat[name] > limit:
            yield _miss(key, limit, words, float(flat[name]), flat[name] / limit - 1)
