"""Whether the verdict crowns noise: 10,000 made-up sweeps through the code that decides. About a minute.

`--derive` computes the constants of `pipeline/core/sequential.py` anew, by simulation.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from pipeline.core import sequential
from support.dice import named

SWEEPS, SMOKE_SWEEPS = 10_000, 50
FALSE_WINNERS, POWER = 0.05, 0.80  # at most, at least
GAIN, NOISE = 0.10, 0.03
SHAPE = 0.25  # of Wang and Tsiatis: 0 is O'Brien and Fleming's, 0.5 Pocock's
RUNS = 2_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Print both rates; 1 if one is outside of what is promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few sweeps and no limits: only whether it runs")
    parser.add_argument("--derive", action="store_true", help="compute the bounds instead")
    options = parser.parse_args(argv)
    if options.derive:
        derive()
        return 0
    sweeps = SMOKE_SWEEPS if options.smoke else SWEEPS
    wrong = sum(named(seed, gain=0.0, noise=NOISE).winner is not None for seed in range(sweeps)) / sweeps
    right = sum(named(seed, gain=GAIN, noise=NOISE).is_right for seed in range(sweeps)) / sweeps
    print(f"{sweeps} sweeps of equal configurations: a winner in {wrong:.1%} (at most {FALSE_WINNERS:.0%})")
    print(f"{sweeps} with one better by {GAIN:.0%} at {NOISE:.0%} noise: named in {right:.1%} (at least {POWER:.0%})")
    return int(not options.smoke and (wrong > FALSE_WINNERS or right < POWER))


def derive() -> None:
    """Print the bounds, and what the futility limits cost."""
    dice = np.random.default_rng(1)
    equal = _statistics(dice, 0.0)
    nominal = np.stack([stats.t.sf(equal[:, i], count - 1) for i, count in enumerate(sequential.BOUNDS)], axis=1)
    low, high = 1.0, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        is_loose = (nominal < _levels(middle)).any(axis=1).mean() > sequential.ALPHA
        low, high = (middle, high) if is_loose else (low, middle)
    found = [stats.t.isf(level, count - 1) for level, count in zip(_levels(high), sequential.BOUNDS, strict=True)]
    print("BOUNDS =", {count: round(float(bound), 2) for count, bound in zip(sequential.BOUNDS, found, strict=True)})
    better = _statistics(dice, np.log1p(GAIN) / (NOISE * np.sqrt(2)))
    for name, seen in (("equal", equal), (f"better by {GAIN:.0%}", better)):
        won, spent = _played(seen, sequential.FUTILE)
        whole, all_spent = _played(seen, {})
        print(f"{name}: named {won:.2%}, {spent:.2f} rounds; without futility {whole:.2%}, {all_spent:.2f} rounds")


def _statistics(dice: np.random.Generator, effect: float) -> NDArray[np.float64]:
    """T at each look, for an effect in standard deviations of one pair."""
    seen = dice.normal(effect, 1.0, (RUNS, sequential.MOST))
    return np.stack(
        [seen[:, :k].mean(axis=1) / (seen[:, :k].std(axis=1, ddof=1) / np.sqrt(k)) for k in sequential.BOUNDS], axis=1
    )


def _levels(scale: float) -> NDArray[np.float64]:
    """The nominal level of each look."""
    shares = np.array([count / sequential.MOST for count in sequential.BOUNDS])
    levels: NDArray[np.float64] = stats.norm.sf(scale * shares ** (SHAPE - 0.5))
    return levels


def _played(seen: NDArray[np.float64], futile: dict[int, float]) -> tuple[float, float]:
    """The share that is named, and the rounds it takes on average."""
    goes_on, won, spent = np.ones(len(seen), bool), np.zeros(len(seen), bool), np.full(len(seen), sequential.MOST)
    for i, (count, bound) in enumerate(sequential.BOUNDS.items()):
        wins = goes_on & (seen[:, i] > bound)
        ends = wins | (goes_on & (seen[:, i] < futile.get(count, -np.inf)))
        won |= wins
        spent[ends] = count
        goes_on &= ~ends
    return float(won.mean()), float(spent.mean())


if __name__ == "__main__":
    sys.exit(main())
