"""How long the report of 1,000 trials takes, as a command: table, page, summaries and best/. About half a minute."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from pipeline.core.files import SweepDir
from support import many_records

TRIALS, BUDGET_S, PAGE_MB = 1000, 10.0, 10.0
SMOKE_TRIALS = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Print time and size; 1 if one is over its budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few trials and no budgets: only whether it runs")
    is_smoke = parser.parse_args(argv).smoke
    trials = SMOKE_TRIALS if is_smoke else TRIALS
    seconds, size = measure(trials)
    print(f"report of {trials} trials: {seconds:.1f} s (budget {BUDGET_S:g} s), {size:.1f} MB (budget {PAGE_MB:g} MB)")
    return int(not is_smoke and (seconds > BUDGET_S or size > PAGE_MB))


def measure(trials: int) -> tuple[float, float]:
    """Seconds of the command, and megabytes of its page."""
    with tempfile.TemporaryDirectory() as folder:
        many_records.write(Path(folder), trials)
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "pipeline.report", folder], check=True, capture_output=True)
        return time.monotonic() - start, SweepDir(Path(folder)).report.stat().st_size / 1e6


if __name__ == "__main__":
    sys.exit(main())
