"""The picture of the report in the README: `python docs/screenshot.py [outputs/<sweep>]`.

Without a folder it shows a made-up sweep, so that the picture can be made anew on any machine.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.record import Record
from pipeline.core.values import now
from support import many_records

PICTURE = Path(__file__).resolve().parent / "images" / "report.png"
GRID = [(page, slots) for page in (16, 32, 64, 128) for slots in (1, 2, 4, 8)]
KNOBS = [{"page_size": page, "slots": slots} for page, slots in [(None, None), *GRID]]  # the baseline first
WINNER, FAILED, ROUNDS = 16, 3, 3  # numbers of trials; times that winner and baseline are measured again
WIDTH, HEIGHT = 1280, 1440
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the picture; 1 if there is no browser to take it with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", nargs="?", type=Path, help="a finished sweep's folder; default: a made-up one")
    parser.add_argument("--to", type=Path, default=PICTURE, help="default: %(default)s")
    options = parser.parse_args(argv)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.stderr.write(f"error: Taking a picture needs a browser; none of {', '.join(BROWSERS)} is on PATH.\n")
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        _shoot(browser, SweepDir(options.sweep or _made_up(Path(scratch))).report, options.to, Path(scratch))
    print(f"wrote {options.to}")
    return 0


def _made_up(scratch: Path) -> Path:
    folder = scratch / "made-up"
    for record in _records():
        run_dir = RunDir(folder / str(record.number))
        run_dir.path.mkdir(parents=True)
        save(run_dir.record, record)
    subprocess.run([sys.executable, "-m", "pipeline.report", str(folder)], check=True, capture_output=True)
    return folder


def _records() -> Iterator[Record]:
    """The baseline, every combination of the grid, and rounds of winner and baseline in turn."""
    dice, at = random.Random(1), now() - timedelta(hours=3)  # noqa: S311 - no secret
    for number, knobs in enumerate(KNOBS):
        at += timedelta(minutes=4)
        yield many_records.trial(number, knobs, dice, at, fails=number == FAILED)
    for number, which in enumerate([WINNER, 0] * ROUNDS, start=len(KNOBS)):
        at += timedelta(minutes=4)
        again = many_records.trial(number, KNOBS[which], dice, at, fails=False)
        yield replace(again, repeat_of=which, phase="confirm")


def _shoot(browser: str, page: Path, to: Path, scratch: Path) -> None:
    argv = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={scratch}/profile", "--blink-settings=preferredColorScheme=1",
        f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=20000",
        f"--screenshot={to.resolve()}", page.resolve().as_uri(),
    ]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    sys.exit(main())
