"""How long the report of 1,000 trials takes, as a command: table, page, summaries and best/. About half a minute."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support import many_records

from pipeline.core.files import SweepDir

TRIALS, BUDGET_S, PAGE_MB = 1000, 10.0, 10.0


def main() -> int:
    """Print time and size; 1 if one is over its budget."""
    with tempfile.TemporaryDirectory() as folder:
        many_records.write(Path(folder), TRIALS)
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "pipeline.report", folder], check=True, capture_output=True)
        seconds, size = time.monotonic() - start, SweepDir(Path(folder)).report.stat().st_size / 1e6
    print(f"report of {TRIALS} trials: {seconds:.1f} s (budget {BUDGET_S:g} s), {size:.1f} MB (budget {PAGE_MB:g} MB)")
    return int(seconds > BUDGET_S or size > PAGE_MB)


if __name__ == "__main__":
    sys.exit(main())
