"""Shows which seeded faults the teardown matrix finds, and that its selection finds the same.

    python tests/support/seeding.py [--backend local,docker,ome] [--fault REGEX] [--no-control]

Each fault is put into a copy of the working tree, and the tests of the matrix run there until one fails: first those of
the selection, backend by backend. Only where they find nothing do the other cases run; the full matrix has the
selection's cases too, so it finds whatever they find. First of all the selection runs without a fault: what fails then
proves nothing. It takes minutes for each fault and backend; the exit code is 1 if the selection misses a fault that
the full matrix finds.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.places import ROOT
from support.seeded import EVERYWHERE, FAULTS, Fault

FILES = ("test_matrix.py", "test_hard_cases.py", "test_slots.py")
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
ALL_PASSED = 0  # as pytest says it
SOME = 6  # cases that one process runs as quickly as two can start


def main() -> int:
    """Print a row for each fault; 1 if the selection misses one."""
    options = arguments().parse_args()
    backends = options.backend.split(",")
    selected, rest = cases(ROOT, backends)
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {len(selected)} selected and {len(rest)} other cases of {', '.join(backends)}"
    )
    if options.control and (failed := failure(ROOT, selected)):
        print(f"without any fault {failed} fails: mend that first")
        return 1
    missed = 0
    for fault in FAULTS:
        if re.search(options.fault, fault.name) and set(fault.backends) & set(backends):
            missed += not shown(fault, selected, rest)
    return int(missed > 0)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default=",".join(EVERYWHERE), help="only cases of these (all)")
    parser.add_argument("--fault", default="", metavar="REGEX", help="only faults whose names match")
    parser.add_argument("--no-control", dest="control", action="store_false", help="do not run without a fault first")
    return parser


def cases(root: Path, backends: Sequence[str]) -> tuple[list[str], list[str]]:
    """The node ids that the selection has, and those that only the full matrix has; backend by backend."""
    selected, full = (set(collected(root, matrix)) for matrix in ("selection", "full"))
    if not selected <= full:
        raise ValueError("the selection has cases that the full matrix has not")
    return in_order(selected, backends), in_order(full - selected, backends)


def collected(root: Path, matrix: str) -> Iterator[str]:
    files = [f"tests/teardown/{name}" for name in FILES]
    argv = (*PYTEST, "--collect-only", f"--matrix={matrix}", *files)
    told = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True).stdout
    return (line for line in told.splitlines() if "::" in line)


def in_order(ids: set[str], backends: Sequence[str]) -> list[str]:
    return [one for backend in backends for one in sorted(ids) if backend_of(one) == backend]


def backend_of(nodeid: str) -> str | None:
    words = re.split(r"[\[\]-]", nodeid.partition("[")[2])
    return next((word for word in words if word in EVERYWHERE), None)


def shown(fault: Fault, selected: Sequence[str], rest: Sequence[str]) -> bool:
    """Print what finds the fault; False if the full matrix finds it and the selection does not."""
    with tempfile.TemporaryDirectory() as name:
        root = copied(Path(name))
        fault.apply(root)
        by_selection = first_failure(root, fault, selected)
        by_rest = None if by_selection else first_failure(root, fault, rest)
        end_all(root)
    verdict = "selection" if by_selection else "FULL ONLY" if by_rest else "neither"
    print(f"| {fault.name} | {verdict} | {by_selection or by_rest or ''} |", flush=True)
    return by_rest is None


def end_all(root: Path) -> None:
    """What a fault has left running is still the copy's: its command line has the folder."""
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if str(root) in " ".join(one.cmdline()):
                one.kill()


def copied(folder: Path) -> Path:
    """The working tree, as far as git knows or would add it."""
    argv = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def first_failure(root: Path, fault: Fault, ids: Sequence[str]) -> str | None:
    """The first case that fails, the likely ones first, then backend by backend; None if all pass."""
    mine = [one for one in ids if backend_of(one) in fault.backends]
    likely = [one for one in mine if re.search(fault.likely, one)]
    others = [[one for one in mine if backend_of(one) == backend and one not in likely] for backend in EVERYWHERE]
    return next(filter(None, (failure(root, some) for some in (likely, *others) if some)), None)


def failure(root: Path, ids: Sequence[str]) -> str | None:
    workers = ("-n", "2") if len(ids) > SOME else ()
    done = subprocess.run(
        [*PYTEST, "-x", *workers, *ids],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},  # before the working tree that .venv leads to
        capture_output=True,
        text=True,
        check=False,
    )
    if re.search(r"\d+ skipped", done.stdout):  # nothing was found where nothing was looked for
        raise RuntimeError(f"pytest has skipped cases:\n{done.stdout[-4000:]}")
    if done.returncode == ALL_PASSED:
        return None
    found = re.search(r"^(?:FAILED|ERROR) \S+::(test_\S+)", done.stdout, re.MULTILINE)
    if not found:  # it says 2 too where -x has stopped workers
        raise RuntimeError(f"pytest could not run:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return found[1]


if __name__ == "__main__":
    sys.exit(main())
