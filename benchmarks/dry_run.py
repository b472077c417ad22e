"""What `dry_run=true` costs: linear in trials, a thousand in under a minute, in memory that does not grow."""

import argparse
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

BUDGET_S = 60.0  # for 1,000 trials
GROWTH = 1.10  # of the memory of a tenth of the trials
SWEEP = ("runtime=sglang", "model=llama31_8b", "hardware=h100", "traffic=chat", "dry_run=true")
NO_BASELINE = "hydra.sweeper.baseline=false"  # else `tuner` adds a trial to those of the space
BACKENDS = "attention_backend=flashinfer,fa3"
PAGES = "page_size=1,16,32,64,128"
CHUNKS = "chunked_prefill_size=1024,2048,3072,4096,5120,6144,7168,8192,9216,10240"
RATES = "schedule_conservativeness=0.5,0.6,0.7,0.8,0.9,1.0,1.1,1.2,1.3,1.4"
FEW, MANY = (BACKENDS, PAGES, CHUNKS), (BACKENDS, PAGES, CHUNKS, RATES)


@dataclass(frozen=True)
class Run:
    """One dry run as a whole process."""

    trials: int
    seconds: float
    peak_mib: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table; 1 if a budget is not held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="2 and 10 trials and no budgets: only whether it runs")
    is_smoke = parser.parse_args(argv).smoke
    few, many = map(measure, ((BACKENDS,), (BACKENDS, PAGES)) if is_smoke else (FEW, MANY))
    for run in (few, many):
        print(f"{run.trials:5} trials  {run.seconds:6.1f} s  {run.peak_mib:6.0f} MiB at most", flush=True)
    return 0 if is_smoke or holds(few, many) else 1


def holds(few: Run, many: Run) -> bool:
    """Print the verdicts; whether both budgets are held."""
    is_fast, is_flat = many.seconds <= BUDGET_S, many.peak_mib <= GROWTH * few.peak_mib
    print(f"{'ok  ' if is_fast else 'OVER'}  1,000 trials: {many.seconds:.1f} s of {BUDGET_S:g} s")
    print(
        f"{'ok  ' if is_flat else 'OVER'}  memory: {many.peak_mib / few.peak_mib:.2f} of {GROWTH:g} times that of 100"
    )
    return is_fast and is_flat


def measure(space: Sequence[str]) -> Run:
    """A sweep of all combinations of the space."""
    trials = math.prod(len(choices.split(",")) for choices in space)
    argv = [sys.executable, "-m", "pipeline", "-m", NO_BASELINE, *SWEEP, *space]
    start = time.monotonic()
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    shown = sum(line.startswith("trial ") for line in child.stdout or ())
    _pid, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - start
    if os.waitstatus_to_exitcode(status) or shown != trials:
        raise RuntimeError(f"the dry run showed {shown} of {trials} trials")
    return Run(trials=trials, seconds=seconds, peak_mib=_mib(usage))


def _mib(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
