"""How long slots stand idle in a search: `tuner` against Hydra's stock Optuna sweeper, 50 trials in 4 slots each.

Engines that take between 2 and 20 s to load, as different configurations do; stand-ins for engine and genai-bench, so
that two cores suffice. Idle is the share of the slots' time in which no trial runs, from the first trial's start to the
last one's start: then there is nothing left to hand out. About six minutes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fakes.tiny_gguf import write_tiny_gguf
from pipeline.core.files import SweepDir
from pipeline.core.record import Record
from pipeline.core.values import load
from support.cli import command, stub_overrides
from support.places import ROOT

BUDGET = 0.05
SPACE = ("parallel=1,2,4,8", "runtime.health.timeout_s=60")


@dataclass(frozen=True)
class Size:
    """How much is searched."""

    trials: int
    slots: int
    load_s: str  # what an engine takes to load


FULL, SMOKE = Size(50, 4, "interval(2,20)"), Size(3, 2, "interval(0.1,0.5)")


def main(argv: Sequence[str] | None = None) -> int:
    """Print both; 1 if tuner is over its budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few trials and no budget: only whether it runs")
    is_smoke = parser.parse_args(argv).smoke
    size = SMOKE if is_smoke else FULL
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_gguf(Path(folder) / "tiny.gguf")
        seen = {name: idle(Path(folder) / name, model, size, words) for name, words in sweepers(size).items()}
    for name, share in seen.items():
        print(f"{name:8} {share:6.1%} of {size.slots} slots idle over {size.trials} trials")
    is_over = seen["tuner"] > BUDGET and not is_smoke
    print(f"budget   {BUDGET:6.1%} for tuner: {'not asked' if is_smoke else 'OVER' if is_over else 'ok'}")
    return int(is_over)


def sweepers(size: Size) -> dict[str, tuple[str, ...]]:
    """Both, and what each needs to run that many trials in that many slots."""
    return {
        "tuner": ("hydra/sweeper=tuner", "hydra.sweeper.baseline=false"),
        "optuna": ("hydra/sweeper=optuna", f"hydra.sweeper.n_jobs={size.slots}"),
    }


def idle(folder: Path, model: Path, size: Size, sweeper: tuple[str, ...]) -> float:
    """The idle share of one search."""
    given = [*stub_overrides(folder, model), *sweeper, *SPACE, f"load_s={size.load_s}"]
    own = ("hydra/launcher=parallel", f"hydra.launcher.n_jobs={size.slots}", f"hydra.sweeper.n_trials={size.trials}")
    env = {**os.environ, "SERVETUNE_TESTS": str(ROOT / "tests")}
    subprocess.run([*command(sweep=True), *given, *own], cwd=ROOT, env=env, check=True, capture_output=True)
    records = [load(Record, path) for path in SweepDir(folder).records]
    begin, end = (pick(record.started_at for record in records) for pick in (min, max))
    busy_s = sum((min(record.ended_at, end) - record.started_at).total_seconds() for record in records)
    return 1 - busy_s / (size.slots * (end - begin).total_seconds())


if __name__ == "__main__":
    sys.exit(main())
