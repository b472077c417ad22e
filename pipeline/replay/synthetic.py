"""Landscapes that are made up: like those of LLM servers, with a known optimum. Pure; always alike for a name.

The logarithm of the score is a sum of knobs' own effects and of effects of pairs. Three regions fail: too much for the
GPU's memory, too little of it left for the KV cache, and kernels that do not go together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import FailureKind
from pipeline.replay import costs
from pipeline.replay.landscape import Landscape, Numbers, check, default_row
from pipeline.replay.tables import Options
from pipeline.sweep.search.space import Choice, Space

Cells = NDArray[np.int64]
KNOBS: Mapping[str, tuple[str, ...]] = {
    "tensor_parallel": ("1", "2", "4", "8"),
    "memory_share": ("0.8", "0.84", "0.88", "0.9", "0.92", "0.95"),
    "max_running": ("32", "64", "128", "256", "512", "1024"),
    "prefill_tokens": ("2048", "4096", "8192", "16384", "32768"),
    "attention": ("flash", "fused", "paged"),
    "kv_type": ("auto", "fp8"),
    "page_size": ("1", "16", "32", "64"),
    "schedule": ("fcfs", "lpm", "random"),
    "overlap": ("true", "false"),
    "steps": ("1", "2", "4", "8"),
}
ORDERED = ("tensor_parallel", "memory_share", "max_running", "prefill_tokens", "page_size", "steps")
HUNGRY = {"memory_share": 1.0, "max_running": 0.8, "prefill_tokens": 0.7, "tensor_parallel": -0.8}
STARVED = {"memory_share": -1.0, "max_running": 0.9, "kv_type": -0.5, "tensor_parallel": -0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What tells one landscape from another."""

    knobs: tuple[str, ...]
    crash_share: float  # of all combinations
    noise: float
    startup_s: float
    level_s: float
    loads: tuple[int, ...]
    interaction: float  # strength of pairs, as a share of that of single knobs
    limit: float | None = None  # of the latency: the quantile of all levels that meets it


FEW, SOME, ALL = (*KNOBS,)[1:6], (*KNOBS,)[:7], (*KNOBS,)[:9]
RECIPES: Mapping[str, Recipe] = {
    "dense": Recipe(
        knobs=SOME, crash_share=0.1, noise=0.02, startup_s=60, level_s=25, loads=(4, 16, 64), interaction=0.3
    ),
    "moe": Recipe(
        knobs=SOME, crash_share=0.3, noise=0.03, startup_s=240, level_s=40, loads=(8, 32, 128, 512), interaction=0.8
    ),
    "crowded": Recipe(
        knobs=ALL, crash_share=0.5, noise=0.04, startup_s=120, level_s=30, loads=(16, 64, 256), interaction=0.5
    ),
    "laptop": Recipe(knobs=FEW, crash_share=0.0, noise=0.06, startup_s=20, level_s=45, loads=(1, 4), interaction=0.2),
    "small": Recipe(
        knobs=FEW, crash_share=0.15, noise=0.01, startup_s=30, level_s=12, loads=(1, 8, 64), interaction=0.5
    ),
    "long-context": Recipe(
        knobs=SOME, crash_share=0.4, noise=0.02, startup_s=300, level_s=45, loads=(1, 4, 16), interaction=0.4
    ),
    "interactive": Recipe(
        knobs=SOME, crash_share=0.2, noise=0.03, startup_s=90, level_s=30, loads=(4, 16, 64, 256),
        interaction=0.4, limit=0.6,
    ),
    "strict": Recipe(
        knobs=FEW, crash_share=0.25, noise=0.05, startup_s=45, level_s=20, loads=(1, 4, 16, 64, 256),
        interaction=0.6, limit=0.3,
    ),
}  # fmt: skip


def made(name: str, options: Options) -> Landscape:
    """The landscape of this name."""
    recipe, dice = RECIPES[name], costs.dice_of(name, 10)
    values = [KNOBS[knob] for knob in recipe.knobs]
    picks = [*product(*values)]
    cells = np.array([*product(*(range(len(one)) for one in values))])
    power = 100 * np.exp(_effects(recipe, cells, dice))
    kinds = _failures(recipe, cells, dice)
    fails = np.array([kind != "" for kind in kinds])
    speed, latency = _levels(recipe, power, dice)
    speed[fails] = np.nan
    inside = speed if latency is None else np.where(latency <= 1, speed, 0.0)
    truth = np.where(fails, np.nan, inside.max(axis=1))
    space = Space(dimensions=tuple(Choice(name=knob, values=KNOBS[knob]) for knob in recipe.knobs))
    check(name, truth, space)
    startup = recipe.startup_s * np.exp(costs.SPREAD * dice.normal(size=len(cells)))
    return Landscape(
        name=name,
        kind="synthetic",
        source="made up",
        space=space,
        picks=picks,
        rows={pick: row for row, pick in enumerate(picks)},
        truth=truth,
        levels=tuple(f"x{load}" for load in recipe.loads),
        speed=speed,
        latency=latency,
        startup_s=startup,
        level_s=recipe.level_s * np.exp(costs.SPREAD * dice.normal(size=speed.shape)),
        failure=kinds,
        crash_s=startup * dice.uniform(0.3, 1.0, len(cells)),
        noise=recipe.noise if options.noise is None else options.noise,
        default=default_row(truth, dice, at=options.default_at),
    )


def _effects(recipe: Recipe, cells: Cells, dice: np.random.Generator) -> Numbers:
    """Of every knob, and of every pair of knobs."""
    parts = [_own(knob, cells[:, at], dice) for at, knob in enumerate(recipe.knobs)]
    total = np.sum(parts, axis=0)
    for one, other in combinations(parts, 2):
        total = total + recipe.interaction * dice.normal() * _even(one) * _even(other) * 0.15
    found: Numbers = total / total.std() * 0.35
    return found


def _even(part: Numbers) -> Numbers:
    wide = part.std()
    return (part - part.mean()) / wide if wide else part * 0


def _own(knob: str, cells: Cells, dice: np.random.Generator) -> Numbers:
    """A hill over the ranks of an ordered knob; anything for names. Some knobs matter little."""
    size, strength = len(KNOBS[knob]), float(np.exp(dice.normal(-1.5, 0.8)))
    if knob not in ORDERED:
        return strength * dice.normal(size=size)[cells]
    top = 0.75 if knob in {"memory_share", "max_running"} else dice.uniform(0.1, 0.9)
    ranks = cells / (size - 1)
    found: Numbers = -strength * 2.5 * (ranks - top) ** 2
    return found


def _failures(recipe: Recipe, cells: Cells, dice: np.random.Generator) -> tuple[str, ...]:
    """The kind of each row; empty where it works."""
    share = recipe.crash_share
    hungry, starved = _sum(recipe, cells, HUNGRY), _sum(recipe, cells, STARVED)
    jitter = 0.05 * dice.normal(size=len(cells))
    odd = _odd_pair(recipe, cells, dice) if share >= 0.15 else np.zeros(len(cells), bool)
    left = max(0.0, share - float(odd.mean()))
    too_much, too_little = _top(hungry + jitter, 0.65 * left), _top(starved - jitter, 0.4 * left)
    words = (FailureKind.UNSUPPORTED_COMBINATION, FailureKind.OOM_GPU, FailureKind.KV_CACHE_TOO_SMALL)
    found = np.select([odd, too_much, too_little], [str(word) for word in words], "")
    return tuple(map(str, found))


def _sum(recipe: Recipe, cells: Cells, weights: Mapping[str, float]) -> Numbers:
    found = np.zeros(len(cells))
    for at, knob in enumerate(recipe.knobs):
        if knob in weights:
            found += weights[knob] * cells[:, at] / (len(KNOBS[knob]) - 1)
    return found


def _odd_pair(recipe: Recipe, cells: Cells, dice: np.random.Generator) -> NDArray[np.bool_]:
    """Two values that do not go together."""
    named = [at for at, knob in enumerate(recipe.knobs) if knob in {"attention", "kv_type", "page_size"}]
    if len(named) < 2:
        return np.zeros(len(cells), bool)
    picked = [(at, int(dice.integers(len(KNOBS[recipe.knobs[at]])))) for at in named[:2]]
    found: NDArray[np.bool_] = np.all([cells[:, at] == value for at, value in picked], axis=0)
    return found


def _top(score: Numbers, share: float) -> NDArray[np.bool_]:
    """The highest share of a score."""
    if share <= 0:
        return np.zeros(len(score), bool)
    found: NDArray[np.bool_] = score > np.quantile(score, 1 - share)
    return found


def _levels(recipe: Recipe, power: Numbers, dice: np.random.Generator) -> tuple[Numbers, Numbers | None]:
    """Throughput that saturates over the load, and the latency that goes with it."""
    loads = np.array(recipe.loads, float)
    half = float(np.median(recipe.loads)) * np.exp(0.25 * dice.normal(size=len(power)))
    speed = power[:, None] * loads / (loads + half[:, None])
    if recipe.limit is None:
        return speed, None
    latency = loads / speed * np.exp(0.1 * dice.normal(size=speed.shape))
    return speed, latency / np.quantile(latency, recipe.limit)


def names() -> Sequence[str]:
    """All of them."""
    return [*RECIPES]
