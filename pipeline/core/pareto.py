"""The Pareto front of several objectives: points of which no other one is better in all. Pure.

The hypervolume of a single point is taken with the reference of no throughput and endless latency: what is to be small
counts by its inverse, so that the volume is a product and needs no scale.
"""

import math
from collections.abc import Sequence

MEMBERS = 6  # configurations of the front that are measured again; those with the most volume
ROUNDS = 3  # of each of them and the baseline
Point = tuple[float, ...]


def volume(point: Point, is_maximised: Sequence[bool]) -> float:
    """The hypervolume of a point; 0 where a value is not positive."""
    if min(point) <= 0:
        return 0.0
    return math.prod(seen if more else 1 / seen for seen, more in zip(point, is_maximised, strict=True))


def front(points: Sequence[Point], is_maximised: Sequence[bool]) -> list[bool]:
    """Which points are on the front; equal ones both are."""
    signs = [1 if more else -1 for more in is_maximised]
    signed = [tuple(sign * each for sign, each in zip(signs, point, strict=True)) for point in points]
    best = _undominated(signed)
    return [one in best for one in signed]


def _undominated(points: Sequence[Point]) -> set[Point]:
    """In falling order a point can only be covered by one before it."""
    found: list[Point] = []
    for one in sorted(set(points), reverse=True):
        if not any(all(theirs >= ours for theirs, ours in zip(other, one, strict=True)) for other in found):
            found.append(one)
    return set(found)


def members(points: Sequence[tuple[int, Point]], is_maximised: Sequence[bool]) -> list[int]:
    """The configurations that have a point on the front; most volume first."""
    on_it = front([point for _, point in points], is_maximised)
    volumes: dict[int, float] = {}
    for (number, point), is_on in zip(points, on_it, strict=True):
        if is_on:
            volumes[number] = max(volumes.get(number, 0.0), volume(point, is_maximised))
    return sorted(volumes, key=lambda number: (-volumes[number], number))
