"""How long slots stand idle in a search: `tuner` against Hydra's stock Optuna sweeper, 50 trials in 4 slots each.

Engines that take between 2 and 20 s to load, as different configurations do; stand-ins for engine and genai-bench, so
that two cores suffice. Idle is the share of the slots' time in which no trial runs, from the first trial's start to the
last one's start: then there is nothing left to hand out. About six minutes.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fakes.tiny_gguf import write_tiny_gguf
from support.cli import command, stub_overrides
from support.places import ROOT

from pipeline.core.files import SweepDir
from pipeline.core.record import Record
from pipeline.core.values import load

TRIALS, SLOTS, BUDGET = 50, 4, 0.05
SPACE = ("load_s=interval(2,20)", "parallel=1,2,4,8", "runtime.health.timeout_s=60")
SWEEPERS = {
    "tuner": ("hydra/sweeper=tuner", "hydra.sweeper.baseline=false"),
    "optuna": ("hydra/sweeper=optuna", f"hydra.sweeper.n_jobs={SLOTS}"),
}


def main() -> int:
    """Print both; 1 if tuner is over its budget."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_gguf(Path(folder) / "tiny.gguf")
        seen = {name: idle(Path(folder) / name, model, words) for name, words in SWEEPERS.items()}
    for name, share in seen.items():
        print(f"{name:8} {share:6.1%} of {SLOTS} slots idle over {TRIALS} trials")
    print(f"budget   {BUDGET:6.1%} for tuner: {'ok' if seen['tuner'] <= BUDGET else 'OVER'}")
    return int(seen["tuner"] > BUDGET)


def idle(folder: Path, model: Path, sweeper: tuple[str, ...]) -> float:
    """The idle share of one search."""
    given = [*stub_overrides(folder, model), *sweeper, *SPACE]
    own = ("hydra/launcher=parallel", f"hydra.launcher.n_jobs={SLOTS}", f"hydra.sweeper.n_trials={TRIALS}")
    env = {**os.environ, "SERVETUNE_TESTS": str(ROOT / "tests")}
    subprocess.run([*command(sweep=True), *given, *own], cwd=ROOT, env=env, check=True, capture_output=True)
    records = [load(Record, path) for path in SweepDir(folder).records]
    begin, end = (pick(record.started_at for record in records) for pick in (min, max))
    busy_s = sum((min(record.ended_at, end) - record.started_at).total_seconds() for record in records)
    return 1 - busy_s / (SLOTS * (end - begin).total_seconds())


if __name__ == "__main__":
    sys.exit(main())
