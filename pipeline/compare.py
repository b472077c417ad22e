"""`servetune compare SWEEP SWEEP`: puts sweeps side by side, and says what is shown to differ. Writes nothing."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pipeline.core.files import RunDir, SweepDir
from pipeline.core.record import Record
from pipeline.core.values import to_json
from pipeline.machine import entry
from pipeline.report import comparison, comparison_text, summary
from pipeline.report.compared import Source
from pipeline.report.comparison import LETTERS, Beside

OK, NOT_COMPARABLE, BAD_INPUT = 0, 1, 2
ABOUT = """The first sweep is what the others are held against. Shown are model, engine, hardware, traffic, verdict and
scores of each, what differs between them, and the configurations that several of them measured. A difference is claimed
only where the intervals show it. Scores are compared where objective, traffic, SLO and model are the same.

--json prints one object: `sweeps`, `differences`, `pairs` (each sweep against the first one) and `configurations`. In a
change, 0.1 is 10% more of the objective; `verdict` says whether that is better.

Exit codes: 0, compared; 1, scores of two of the sweeps cannot be compared; 2, a folder or a record cannot be read, and
what can be read is shown."""


class Unusable(Exception):
    """What was named is not two sweeps. The message is one line."""


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.compare") -> int:
    """The command. 0: compared; 1: scores cannot be compared; 2: bad input, or a record that cannot be read."""
    given = _options(argv, prog)
    try:
        sources = _sources(given.sweeps)
    except Unusable as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    found = comparison.of(sources, any_model=given.any_model)
    if given.json:
        sys.stdout.write(to_json(found) + "\n")
    else:
        _show(found)
    if any(seen.unreadable for seen in sources):
        return BAD_INPUT
    return OK if found.is_comparable else NOT_COMPARABLE


def _options(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [-h] [--any-model] [--json] SWEEP SWEEP [SWEEP ...]",
        description="Put two or more sweeps side by side: what they are, what differs, and what is shown of it.",
        epilog=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweeps", nargs="*", type=Path, metavar="SWEEP", help="folder of a sweep")
    parser.add_argument(
        "--any-model",
        action="store_true",
        help="also compare scores of different models, e.g. of one model in two formats",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    return parser.parse_args(argv)


def _sources(folders: Sequence[Path]) -> list[Source]:
    """The records of each.

    Raises:
        Unusable: a folder is missing, is none of a sweep, or is there twice; or nothing in it can be read.
    """
    if not 2 <= len(folders) <= len(LETTERS):
        seen = f"only {folders[0]}" if len(folders) == 1 else f"{len(folders) or 'none'}"
        raise Unusable(f"Expected the folders of 2 to {len(LETTERS)} sweeps, seen {seen}.")
    _insist_sweeps(folders)
    sources = [_source(folder) for folder in folders]
    _insist_apart(sources)
    return sources


def _insist_sweeps(folders: Sequence[Path]) -> None:
    there: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            raise Unusable(f"{folder} {what}. Expected the folder of a sweep.")
        real = folder.resolve()
        if real in there:
            raise Unusable(f"{folder} is there twice. Expected different sweeps.")
        there[real] = folder
        if not SweepDir(folder).records:
            raise Unusable(f"{folder} holds no */record.json. Expected the folder of a sweep{_nearby(folder)}.")


def _nearby(folder: Path) -> str:
    if RunDir(folder).record.exists():
        return f"; this is one trial's, perhaps of {folder.resolve().parent}"
    found = sorted(path.parent.parent for path in folder.glob("*/*/record.json"))
    return f", such as {found[-1]}" if found else ""


def _source(folder: Path) -> Source:
    sweep = SweepDir(folder)
    records, count = summary.read(sweep), len(sweep.records)
    if not records:
        raise Unusable(f"{folder}: none of its {count} records can be read.")
    return Source(folder=str(folder), records=tuple(records), unreadable=count - len(records))


def _insist_apart(sources: Sequence[Source]) -> None:
    """A copy of a folder tells nothing of the sweep that it does not tell itself."""
    there: dict[tuple[object, ...], str] = {}
    for seen in sources:
        for one in seen.records:
            if (other := there.setdefault(_identity(one), seen.folder)) != seen.folder:
                raise Unusable(f"{seen.folder} and {other} hold the same trials: one is a copy of the other.")


def _identity(record: Record) -> tuple[object, ...]:
    return record.trial_id, record.started_at, record.ended_at, record.environment.get("host")


def _show(found: Beside) -> None:
    """Complete where it is not read on a terminal."""
    console = Console(highlight=False, markup=False)
    for line in comparison_text.lines(found, console.width if console.is_terminal else None):
        console.print(Text(line.text, style=line.style), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(entry.run(main))
