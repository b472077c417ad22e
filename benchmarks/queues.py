"""How often a level at a rate says that a server does not keep up, on simulated servers: the table in docs/rates.md.

Poisson arrivals, first come first served; times of a request are fixed or exponential.
"""

import argparse
import random
from collections import Counter

from pipeline.core import arrivals
from pipeline.core.arrivals import Span

Server = tuple[int, float, bool]  # slots, seconds of a request or their mean, whether they are exponential
SERVERS: tuple[Server, ...] = ((1, 0.36, False), (4, 1.3, False), (10, 0.66, False), (10, 0.66, True), (1, 0.36, True))
LOADS = (0.95, 1.1, 1.2, 1.5)


def main() -> None:
    """Print one line for each server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--for-s", type=float, default=60.0, help="time of sending")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--smoke", action="store_true", help="two runs of each: only whether it runs")
    options = parser.parse_args()
    runs = 2 if options.smoke else options.runs
    print("share of runs that say: does not keep up, too short to tell")
    for server in SERVERS:
        slots, takes_s, is_exponential = server
        told = []
        for load in LOADS:
            seen = Counter(keeps_up(server, load, options.for_s, seed) for seed in range(runs))
            told.append(f"{load:.0%}: {seen[False] / runs:4.0%}, {seen[None] / runs:4.0%}")
        kind = "exponential" if is_exponential else "fixed"
        print(f"slots: {slots:2}, seconds: {takes_s:4}, {kind:11}  {'  |  '.join(told)}")


def keeps_up(server: Server, load: float, for_s: float, seed: int) -> bool | None:
    """What one run says."""
    slots, takes_s, is_exponential = server
    rate = load * slots / takes_s
    dice, free, spans = random.Random(seed), [0.0] * slots, []  # noqa: S311 - not for secrets
    for at_s in arrivals.times("poisson", rate, round(rate * for_s), seed=seed):
        begin = max(at_s, min(free))
        end = begin + (dice.expovariate(1 / takes_s) if is_exponential else takes_s)
        free[free.index(min(free))] = end
        spans.append(Span(at_s, end))
    found = arrivals.seen(spans, rate)
    return None if found is None else found.keeps_up


if __name__ == "__main__":
    main()
