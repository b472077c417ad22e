"""How samplers find a Pareto front: two objectives on made-up landscapes, through the search of a sweep. Minutes.

Each pair of `servetune replay`'s made-up landscapes with the same knobs gives one: the scores of both, with noise. Told
is the hypervolume of the true scores of what was measured, as a share of the whole front's, above the medians of both
objectives. No clock: every sampler has the same number of trials.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from pipeline.core.limits import Limits
from pipeline.replay import costs, strategies, synthetic
from pipeline.replay.landscape import Landscape
from pipeline.replay.tables import Options
from pipeline.sweep.search.outcome import Outcome
from pipeline.sweep.search.search import Search
from pipeline.sweep.search.study import in_memory
from pipeline.sweep.tuner import samplers

SAMPLERS = ("random", "nsgaii:population_size=10", "tpe", "tuner")
NSGA = SAMPLERS[1]  # with Optuna's usual population of 50, all of these trials are random
TRIALS, SEEDS, SMOKE = 40, 20, (8, 1)
NOISE = 0.03
RESAMPLES = 2_000

Points = NDArray[np.float64]


class Job(NamedTuple):
    """One search."""

    pair: tuple[str, str]
    sampler: str
    seed: int
    trials: int


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for each sampler."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few short searches: only whether it runs")
    options = parser.parse_args(argv)
    trials, seeds = SMOKE if options.smoke else (TRIALS, SEEDS)
    wanted = pairs()[:1] if options.smoke else pairs()
    jobs = [Job(*each, trials) for each in product(wanted, SAMPLERS, range(seeds))]
    with ProcessPoolExecutor() as pool:
        found = np.array([*pool.map(searched, jobs)]).reshape(len(wanted), len(SAMPLERS), seeds)
    print(f"{len(wanted)} pairs of landscapes, {seeds} seeds, {trials} trials: share of the front's hypervolume")
    for line in lines(found):
        print(line)
    return 0


def pairs() -> list[tuple[str, str]]:
    """Landscapes with the same knobs."""
    recipes = synthetic.RECIPES
    return [(one, other) for one, other in combinations(recipes, 2) if recipes[one].knobs == recipes[other].knobs]


def searched(job: Job) -> float:
    """The share of the hypervolume that a search finds."""
    warnings.filterwarnings("ignore", message=".*experimental.*")
    one, other = (synthetic.made(name, Options()) for name in job.pair)
    truth = np.stack([one.truth, other.truth], axis=1)
    truth[~np.isfinite(truth).all(axis=1)] = np.nan
    low = np.nanmedian(truth, axis=0)
    rows = [*_run(one, truth, job)]
    return hypervolume(truth[rows], low) / hypervolume(truth, low)


def _run(found: Landscape, truth: Points, job: Job) -> Iterator[int]:
    """The rows that were measured."""
    (strategy,) = strategies.made([job.sampler])
    option = OmegaConf.create({**strategy.sampler, "seed": job.seed})
    study = in_memory(found.space, ["maximize", "maximize"])
    study.optuna.sampler = samplers.made(option, done=0, slots=1)
    fine = np.flatnonzero(np.isfinite(truth).all(axis=1))
    dice = costs.dice_of("+".join(job.pair), job.seed)
    baselines = [found.params(int(dice.choice(fine)))]
    limits = Limits(n_trials=job.trials, confirm=0)
    search = Search(study, limits, baselines, is_maximised=[True, True], in_order=False)
    while asked := search.next():
        row = found.rows[tuple(map(str, asked.params.values()))]
        seen = truth[row] * np.exp(NOISE * dice.normal(size=2))
        if np.isfinite(seen).all():
            search.tell(asked.number, Outcome(values=tuple(map(float, seen))))
            yield row
        else:
            search.tell(asked.number, Outcome(values=(), attributes={"status": "failed", "failure": "oom_gpu"}))


def hypervolume(points: Points, low: Points) -> float:
    """The area that points dominate above `low`; more is better."""
    fine = points[np.isfinite(points).all(axis=1) & (points > low).all(axis=1)]
    total, reached = 0.0, float(low[1])
    for x, y in fine[np.argsort(-fine[:, 0])]:
        total += max(0.0, float(y) - reached) * float(x - low[0])
        reached = max(reached, float(y))
    return total


def lines(found: Points) -> Iterator[str]:
    """The mean, and the ratio of what is missing to what NSGA-II misses, with its 95% bootstrap interval over pairs."""
    missing: Mapping[str, Points] = {name: 1 - found[:, at] for at, name in enumerate(SAMPLERS)}
    dice = np.random.default_rng(0)
    picked = dice.integers(len(found), size=(RESAMPLES, len(found)))
    for name, cells in missing.items():
        means, theirs = cells.mean(axis=1), missing[NSGA].mean(axis=1)
        drawn = means[picked].mean(axis=1) / theirs[picked].mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        ratio = means.mean() / theirs.mean()
        yield f"{name:26} {1 - means.mean():.3f}; missing, of NSGA-II's: {ratio:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    sys.exit(main())
