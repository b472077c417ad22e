"""`python -m pipeline.sync`: upload what of the sweeps below a folder is not, or not wholly, in W&B or MLflow."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core.files import SweepDir
from pipeline.machine import companion, entry, process
from pipeline.report import later
from pipeline.trackers import wandb_publisher

BLOCK, CHUNK, FULL, LAST = 32768, 7, 1, 4  # see is_whole
NO_KEY = """\
error: W&B has no key for {url}: {waiting} of {total} offline runs wait to be uploaded.
hint: Run `wandb login`, or set WANDB_API_KEY (and WANDB_BASE_URL for a server of your own).
"""


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.sync") -> int:
    """The command. 1: no key or server, or not everything was uploaded; 2: no such folder."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Upload the offline W&B runs of every sweep in a folder, and those that began online and did "
        "not end there; send to MLflow what waits for it. Runs that were uploaded are skipped. "
        "Exit code 1: no W&B key, no MLflow server, or a run was not uploaded; 2: no such folder.",
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("outputs"), help="sweeps, or one sweep; default: %(default)s"
    )
    folder = parser.parse_args(argv).folder
    if not folder.is_dir():
        sys.stderr.write(f"error: {folder} is not a folder. Expected one with sweeps in it, or a sweep's own.\n")
        return 2
    sweeps = sorted(later.waiting(folder))
    codes = [later.send(sweep) for sweep in sweeps]
    runs = sorted(offline_runs(folder))
    if runs or not sweeps:
        codes.append(_to_wandb(runs, folder))
    return max(codes)


def _to_wandb(runs: Sequence[Path], folder: Path) -> int:
    waiting = [run for run in runs if not is_synced(run)]
    if not waiting:
        found = (
            f"all of {len(runs)} offline runs below {folder} have been uploaded"
            if runs
            else f"no offline runs below {folder}"
        )
        print(f"Nothing to upload: {found}.")
        return 0
    has_key, url = wandb_publisher.ask_key()
    if not has_key:
        sys.stderr.write(NO_KEY.format(url=url, waiting=len(waiting), total=len(runs)))
        return 1
    whole = [run for run in waiting if is_whole(run)]
    if whole:
        _upload(whole)
    return _tell(waiting, len(runs) - len(waiting), url)


def offline_runs(folder: Path) -> Iterator[Path]:
    """The file of every run of every sweep in there that is not online, or not wholly, wherever it lies."""
    for path, folders, _ in os.walk(folder):
        here = SweepDir(Path(path))
        if here.tracker.name in folders:
            yield from here.tracker.glob("offline-run-*/*.wandb")
            yield from (run for run in here.tracker.glob("run-*/run-*.wandb") if _is_unfinished(run, here))
            folders.remove(here.tracker.name)
        folders[:] = [name for name in folders if not (here.path / name / "record.json").exists()]


def _is_unfinished(run: Path, sweep: SweepDir) -> bool:
    """Whether a run that began online never ended there, and was not written offline instead."""
    return (sweep.tracker_unfinished / run.stem.removeprefix("run-")).exists()


def is_synced(run: Path) -> bool:
    """Whether W&B's own mark beside the run says so."""
    return run.with_name(f"{run.name}.synced").exists()


def is_whole(run: Path) -> bool:
    """Whether the file ends with a complete record. W&B's command uploads nothing at all if one of its files does not.

    LevelDB's log format: 7 bytes, then chunks in blocks of 32 KiB, each with a checksum (4), its length (2), its kind.
    """
    data, position, kind = run.read_bytes(), 7, 0
    while position + CHUNK <= len(data):
        if (room := BLOCK - position % BLOCK) < CHUNK:  # filled up with zeros
            position += room
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        position += CHUNK + length
    return position == len(data) and kind in {FULL, LAST}


def _upload(runs: Sequence[Path]) -> None:
    """W&B's own command, on all of them at once. What it says is for the user; whether it worked, the marks say."""
    companion.tidy()
    with companion.scratch() as folder:  # else its logs go to ./wandb, and where no such folder is, to /tmp
        Path(folder, "wandb").mkdir()
        environment = {**os.environ, "WANDB_DIR": folder}
        command = [sys.executable, "-m", "wandb", "sync", "--no-skip-online", *map(str, runs)]
        process.show(command, env=environment)


def _tell(runs: Sequence[Path], before: int, url: str) -> int:
    done = [run for run in runs if is_synced(run)]
    already = f" ({before} were there already)" if before else ""
    print(f"Uploaded {len(done)} of {len(runs)} offline runs to {url}{already}.")
    sweeps = [SweepDir(path) for path in dict.fromkeys(run.parents[2] for run in done)]
    for script in (sweep.tracker_script for sweep in sweeps if sweep.tracker_script.exists()):
        print(f"W&B report of that sweep: python {script}")
    if len(done) == len(runs):
        return 0
    for run in (run for run in runs if run not in done):
        why = "" if is_whole(run) else " (cut off, by a kill perhaps: the trial's record has it all, delete this)"
        sys.stderr.write(f"error: not uploaded: {run.parent}{why}\n")
    sys.stderr.write("hint: W&B's own words are above; run it again to upload the rest.\n")
    return 1


if __name__ == "__main__":
    sys.exit(entry.run(main))
