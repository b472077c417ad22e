"""How many users a server can have, or how many requests per second: what to try next, and what was found. Pure.

With an SLO, the capacity is the most users with which every limit is met: doubled until it is not, then halved in
between (docs/measuring.md). Without one it is the knee of throughput against latency: the users with the most power,
throughput / latency. Source: Kleinrock, Power and Deterministic Rules of Thumb, ICC 1979. Where requests are sent at a
rate, it is the highest one with which the SLO is met, or without one, with which the server keeps up. The search
counts in steps: a user, or traffic.rate_step.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

from pipeline.core import loads
from pipeline.core.arrivals import is_unsure as _may_grow
from pipeline.core.record import Level, LevelMetrics
from pipeline.core.schema import Config, Slo
from pipeline.core.schema_traffic import Traffic
from pipeline.core.statistics import SDS, SPREAD
from pipeline.core.values import value

NOISE = SDS * SPREAD  # of a level's power that may be luck
ROUNDING = 1e-6  # of a rate
Z = 1.96  # of the normal distribution: two sides of 95%


@value
class Probe:
    """A number of users, or of steps of the rate, that was tried."""

    users: int
    fits: bool  # whole, usable, and inside the SLO
    is_unsure: bool = False  # another look might say otherwise: so few requests, so close to slo.attainment
    power: float = 0.0  # output tokens/s, per second of a request


@value
class Capacity:
    """What was found for one scenario."""

    scenario: str
    users: float  # or requests per second; 0: not one
    low: float  # the interval: so many fit, whatever luck was in it
    high: float | None  # so many do not, whatever luck was in it; None: that was not seen
    probes: tuple[float, ...]  # in the order in which they were tried

    @property
    def interval(self) -> str:
        """E.g. `[32, 44]`; `[32, ?]` where nothing was too much."""
        return f"[{self.low:g}, {'?' if self.high is None else f'{self.high:g}'}]"


def is_wanted(traffic: Traffic) -> bool:
    """Whether trials look for the capacity, instead of measuring the levels that are given."""
    return traffic.levels == "capacity"


def most(traffic: Traffic) -> float:
    """The highest demand that a level may have."""
    return traffic.at(_top(traffic)) if is_wanted(traffic) else max(traffic.demands)


def start(traffic: Traffic, scenario: str, best: str | None) -> float:
    """Where the search begins: at the capacity of the best trial, by its level's name, else as `demands` do."""
    ends = max if traffic.order == "busiest_first" else min
    first = loads.demand_of(best) if best and loads.scenario_of(best) == scenario else ends(traffic.demands)
    return traffic.at(min(_top(traffic), traffic.steps(first)))


def _top(traffic: Traffic) -> int:
    """The highest step that is not above what may be tried."""
    most = traffic.most_demand
    nearest = traffic.steps(most)
    return nearest if traffic.at(nearest) <= most * (1 + ROUNDING) else max(1, nearest - 1)


def most_probes(traffic: Traffic) -> int:
    """As many as one scenario can take: doublings over the whole range, and halvings on both sides of a knee."""
    doublings = math.ceil(math.log2(_top(traffic))) + 1
    return doublings + 2 * math.ceil(math.log2(math.log(2) / math.log1p(traffic.precision)))


def most_levels(traffic: Traffic) -> int:
    """As many as a trial can take, each of them once."""
    each = most_probes(traffic) if is_wanted(traffic) else len(set(traffic.demands))
    return len(traffic.scenarios) * each


def ladder(traffic: Traffic) -> tuple[float, ...]:
    """The demands of a scenario that time is planned for: those given, or a capacity's doublings."""
    if not is_wanted(traffic):
        return tuple(sorted(set(traffic.demands)))
    return tuple(traffic.at(2**power) for power in range(math.ceil(math.log2(_top(traffic))) + 1))


def following(probes: Sequence[Probe], traffic: Traffic, slo: Slo) -> int | None:
    """The users to try next; None: it is found, as closely as `traffic.precision` and the noise allow."""
    if len(probes) >= most_probes(traffic):
        return None
    rising = sorted(probes, key=lambda one: one.users)
    return (_edge if has_edge(traffic, slo) else _knee)(rising, traffic)


def has_edge(traffic: Traffic, slo: Slo) -> bool:
    """Whether it can be said of each load by itself that it fits."""
    return slo.is_set or traffic.is_open


def is_too_many(last: Probe, probes: Sequence[Probe], traffic: Traffic, slo: Slo) -> bool:
    """Whether the capacity is less than the last number of users that was tried."""
    if has_edge(traffic, slo):
        return not last.fits
    return any(one.power * (1 - NOISE) > last.power for one in probes if one.users < last.users)


def _edge(rising: Sequence[Probe], traffic: Traffic) -> int | None:
    """Between the most users that fit and the fewest that do not."""
    inside = [one for one in rising if one.fits]
    outside = [one for one in rising if not one.fits]
    if not outside:
        return _up(inside[-1].users, traffic)
    if not inside:
        return _down(outside[0].users)
    low, high = inside[-1], outside[0]
    return None if low.is_unsure and high.is_unsure else _between(low.users, high.users, traffic)


def _knee(rising: Sequence[Probe], traffic: Traffic) -> int | None:
    """Beside the probe with the most power: outwards while there is no lesser one, then inwards on the wider side."""
    top = max(range(len(rising)), key=lambda at: rising[at].power)
    best, before, after = rising[top], rising[:top], rising[top + 1 :]
    if not after and (more := _up(best.users, traffic)):
        return more
    if not before and (fewer := _down(best.users)):
        return fewer
    sides = [*((one, best) for one in before[-1:]), *((best, one) for one in after[:1])]
    clear = [(a, b) for a, b in sides if min(a.power, b.power) < best.power * (1 - NOISE)]
    gaps = sorted(((b.users / a.users, a.users, b.users) for a, b in clear), reverse=True)
    return next((users for _, a, b in gaps if (users := _between(a, b, traffic))), None)


def _up(users: int, traffic: Traffic) -> int | None:
    return min(2 * users, _top(traffic)) if users < _top(traffic) else None


def _down(users: int) -> int | None:
    return users // 2 if users > 1 else None


def _between(low: int, high: int, traffic: Traffic) -> int | None:
    """In the middle of the ratio; None where they are as close as was asked."""
    if high - low <= max(1, traffic.precision * low):
        return None
    return min(high - 1, max(low + 1, round(math.sqrt(low * high))))


def probe(level: Level, traffic: Traffic, slo: Slo) -> Probe:
    """What a level says. One that failed, or that was cut, says that so many do not fit."""
    seen, users = level.metrics, traffic.steps(level.demand)
    if seen is None or not seen.is_usable or seen.is_cut:
        return Probe(users=users, fits=False)
    is_unsure = _is_unsure(seen, slo) or (level.arrivals is not None and _may_grow(level.arrivals, seen.num_begun))
    return Probe(users=users, fits=seen.meets_slo, is_unsure=is_unsure, power=_power(seen))


def _power(seen: LevelMetrics) -> float:
    return seen.output_tokens_per_s / seen.e2e.mean if seen.e2e and seen.e2e.mean else 0.0


def _is_unsure(seen: LevelMetrics, slo: Slo) -> bool:
    """Whether Wilson's interval (JASA 22, 1927) of the share of good requests holds the limit, and some were not good.

    Where all were, so few of them may be no proof either; but a search that doubts them would never end.
    """
    share, count = seen.slo_attainment, seen.num_requests
    if share is None or share == 1 or not count:
        return False
    spread = Z * math.sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2)
    middle, scale = share + Z * Z / (2 * count), 1 + Z * Z / count
    return (middle - spread) / scale <= slo.attainment <= (middle + spread) / scale


def of(levels: Iterable[Level], config: Config) -> tuple[Capacity, ...]:
    """What the levels of a trial say, for each scenario that was measured; nothing where nobody looks for it."""
    measured = [level for level in levels if level.status != "skipped"] if is_wanted(config.traffic) else []
    return tuple(_of(mine, config) for mine in _by_scenario(measured, config.traffic))


def _by_scenario(levels: Sequence[Level], traffic: Traffic) -> Iterator[list[Level]]:
    for scenario in traffic.scenarios:
        if mine := [level for level in levels if level.scenario == scenario]:
            yield mine


def _of(levels: Sequence[Level], config: Config) -> Capacity:
    traffic, slo = config.traffic, config.slo
    seen = [probe(level, traffic, slo) for level in levels]
    rising = sorted(seen, key=lambda one: one.users)
    users, low, high = (_edge_found if has_edge(traffic, slo) else _knee_found)(rising)
    return Capacity(
        scenario=levels[0].scenario,
        users=traffic.at(users),
        low=traffic.at(low),
        high=None if high is None else traffic.at(high),
        probes=tuple(traffic.at(one.users) for one in seen),
    )


def _edge_found(rising: Sequence[Probe]) -> tuple[int, int, int | None]:
    users = max((one.users for one in rising if one.fits), default=0)
    low = max((one.users for one in rising if one.fits and not one.is_unsure), default=0)
    high = next((one.users for one in rising if not one.fits and not one.is_unsure and one.users > users), None)
    return users, low, high


def _knee_found(rising: Sequence[Probe]) -> tuple[int, int, int | None]:
    """The interval goes to the next probes with clearly less power."""
    best = max(rising, key=lambda one: one.power)
    if not best.power:
        return 0, 0, None
    lesser = [one.users for one in rising if one.power < best.power * (1 - NOISE)]
    low = max((users for users in lesser if users < best.users), default=rising[0].users)
    return best.users, low, next((users for users in lesser if users > best.users), None)


def levels_at(levels: Iterable[Level], config: Config) -> list[Level]:
    """The level of each scenario that is its capacity: what the objective is read from."""
    levels = list(levels)
    found = {(one.scenario, one.users) for one in of(levels, config)}
    return [level for level in levels if (level.scenario, level.demand) in found]
