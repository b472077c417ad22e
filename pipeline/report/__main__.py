"""`python -m pipeline.report outputs/<sweep>`: the ranked table of a sweep, at any time, and all that is made from it.

Writes report.html, summary.csv, summary.parquet, ranking.csv, best.json and best/ into the folder.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.files import SweepDir
from pipeline.machine import entry
from pipeline.report import summary


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.report") -> int:
    """The command. 1: nothing in there can be recommended; 2: no record at all; 3: something was left behind."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Rank the trials of a sweep, while it runs or later. Prints the table and writes report.html, "
        "summary.csv, summary.parquet, ranking.csv, best.json and best/ into the sweep's folder. "
        "Exit code 1: no trial has a result, or none meets the SLO; 2: no records found; "
        "3: a trial left something running.",
    )
    parser.add_argument(
        "sweep", type=Path, help="the sweep's folder, with one sub-folder per trial, e.g. outputs/2026-01-31_12-00-00"
    )
    parser.add_argument("--no-html", action="store_true", help="leave out report.html and the summaries")
    given = parser.parse_args(argv)
    folder = given.sweep
    if not SweepDir(folder).records:
        sys.stderr.write(f"error: {folder} holds no */record.json. Expected the folder of a sweep.\n")
        return 2
    found = summary.finish(folder, has_page=not given.no_html)
    return 3 if found.remains else found.exit_code


if __name__ == "__main__":
    sys.exit(entry.run(main))
