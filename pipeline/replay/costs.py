"""Times of start-ups, levels and crashes where nobody has recorded them: drawn, always alike for a name. Pure.

The ranges are those of real sweeps of SGLang and vLLM: start-ups of 20 to 300 s, levels of 12 to 45 s, noise of 1 to
6%.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import FailureKind
from pipeline.replay.landscape import Numbers

STARTUP_S, LEVEL_S, NOISE = (20.0, 300.0), (12.0, 45.0), (0.01, 0.06)
SPREAD = 0.15  # standard deviation of the logarithm of a configuration's times around those of its landscape
LEVELS = (3, 5)  # least and most
AT_LOAD = 0.7  # of the crashes: while the engine loads; the others come with the first load
SHAPE = 0.06  # how far configurations differ in what the lower levels say of the decisive one


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of each row."""

    startup_s: Numbers
    level_s: Numbers
    crash_s: Numbers
    noise: float


def dice_of(name: str, *more: int) -> np.random.Generator:
    """The same sequence for the same name and numbers, on every machine."""
    return np.random.default_rng([zlib.crc32(name.encode()), *more])


def drawn(name: str, rows: int, levels: int) -> Costs:
    """The times of a landscape."""
    dice = dice_of(name, 1)
    base = float(np.exp(dice.uniform(*np.log(STARTUP_S))))
    startup = base * np.exp(SPREAD * dice.normal(size=rows))
    level = dice.uniform(*LEVEL_S, size=levels) * np.exp(SPREAD * dice.normal(size=(rows, levels)))
    return Costs(
        startup_s=startup,
        level_s=level,
        crash_s=_crash_s(startup, level[:, 0], dice),
        noise=float(dice.uniform(*NOISE)),
    )


def _crash_s(startup: Numbers, first: Numbers, dice: np.random.Generator) -> Numbers:
    """A part of the start-up, or all of it and a part of the first level."""
    part, is_early = dice.uniform(0.3, 1.0, len(startup)), dice.random(len(startup)) < AT_LOAD
    found: Numbers = np.where(is_early, part * startup, startup + part * first)
    return found


def kinds(failed: Numbers, startup_s: Numbers, crash_s: Numbers) -> tuple[str, ...]:
    """A kind of failure for each row that fails, where nobody has recorded one."""
    early, late = str(FailureKind.LOAD_FAILED), str(FailureKind.SERVER_DIED)
    rows = zip(failed, startup_s, crash_s, strict=True)
    return tuple("" if not has_failed else early if at <= start else late for has_failed, start, at in rows)


def level_count(name: str) -> int:
    """How many levels a landscape without recorded ones gets."""
    return int(dice_of(name, 2).integers(LEVELS[0], LEVELS[1] + 1))


def speeds(name: str, truth: Numbers, levels: int) -> Numbers:
    """Scores of levels of rising load that saturate; the busiest is the decisive one, and is the truth."""
    dice = dice_of(name, 3)
    shares = 1 - np.exp(-np.linspace(0.6, 3.0, levels))
    wobble = np.exp(SHAPE * dice.normal(size=(len(truth), levels)))
    wobble[:, -1] = 1
    found: Numbers = truth[:, None] * np.minimum(shares / shares[-1] * wobble, 1.0)
    return found
