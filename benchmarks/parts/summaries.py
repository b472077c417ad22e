"""What a recorded table shows, in the numbers that the documentation has."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median, stdev

from benchmarks.parts import equal

AIM_S = 5.0  # that a level is meant to take at most

Lines = Sequence[Mapping[str, str]]


def summary(lines: Lines, knobs: Sequence[str]) -> Iterator[str]:
    """Noise, the defaults, slowest and fastest; then times. Nothing of an empty table."""
    found: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        if line["score"]:
            found[equal.key({name: line[name] for name in knobs})].append(float(line["score"]))
    if not found:
        return
    base = found.get(equal.DEFAULTS, [math.nan])
    yield f"  defaults: {fmean(base):.1f}{_apart(base)}"
    again = {name: scores for name, scores in found.items() if len(scores) > 1 and name != equal.DEFAULTS}
    if again:
        noise = math.sqrt(fmean(stdev(map(math.log, scores)) ** 2 for scores in again.values()))
        best = max(again, key=lambda name: fmean(again[name]))
        yield f"  noise: {noise:.1%} (root mean square of {len(again)} standard deviations)"
        yield f"  fastest of those: {fmean(again[best]) / fmean(base) - 1:+.1%} against the defaults, {best}"
    ranked = sorted(found, key=lambda name: fmean(found[name]))
    yield from (
        f"  {word}: {fmean(found[name]):.1f}{_apart(found[name])}, {name}"
        for word, name in (("slowest", ranked[0]), ("fastest", ranked[-1]))
    )
    yield from _times(lines)


def _apart(scores: Sequence[float]) -> str:
    if len(scores) < 2:
        return " (once)"
    return f" ({len(scores)} times, standard deviation {stdev(scores) / fmean(scores):.1%})"


def _times(lines: Lines) -> Iterator[str]:
    levels = [float(told) for line in lines for name, told in line.items() if name.startswith("seconds@") and told]
    long = sum(one > AIM_S for one in levels) / len(levels)
    start = median(float(line["startup_s"]) for line in lines)
    yield f"  levels: {min(levels):.1f} to {max(levels):.1f} s, {long:.0%} over {AIM_S:g} s; start-up {start:.1f} s"
    failed, crowded = (sum(map(bool, some)) for some in zip(*map(_faults, lines), strict=True))
    yield f"  failed: {failed}; beside other work: {crowded}"


def _faults(line: Mapping[str, str]) -> tuple[bool, bool]:
    return bool(line["failure"]), line["_crowded"] == "1"
