"""The files that a run and a sweep leave on disk: their names, spelled nowhere else, and how they are written."""

import errno
import os
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pipeline.core import disk
from pipeline.core.errors import PreflightFailed
from pipeline.core.values import to_json


@dataclass(frozen=True, slots=True)
class RunDir:
    """Every file name of a run. No other class spells them."""

    path: Path

    @property
    def config(self) -> Path:
        """The trial's whole configuration, as frozen."""
        return self.path / "config.json"

    @property
    def lease(self) -> Path:
        """What the trial owns; after teardown, also who removed it and what is left."""
        return self.path / "lease.json"

    @property
    def plan(self) -> Path:
        """The exact command, environment and levels."""
        return self.path / "plan.json"

    @property
    def server_log(self) -> Path:
        """The engine's stdout and stderr."""
        return self.path / "server.log"

    @property
    def keeper_log(self) -> Path:
        """The keeper's messages; empty when all went well."""
        return self.path / "keeper.log"

    @property
    def pipeline_log(self) -> Path:
        """What the pipeline and its libraries logged during the trial."""
        return self.path / "pipeline.log"

    @property
    def bench(self) -> Path:
        """The load generator's own files, one folder per scenario and load."""
        return self.path / "bench"

    def level(self, scenario: str, load: str | int) -> Path:
        """The folder of one level; a scenario is spelled as genai-bench spells it in file names."""
        safe = scenario.replace("/", "_").replace(",", "_").replace("(", "").replace(")", "")
        return self.bench / safe / str(load)

    @property
    def metrics(self) -> Path:
        """The levels alone, for reading with other tools."""
        return self.path / "metrics.json"

    @property
    def record(self) -> Path:
        """The record."""
        return self.path / "record.json"

    @property
    def owners(self) -> Path:
        """Which process is at the trial, while one is."""
        return self.path / "owners.json"

    @property
    def is_used(self) -> bool:
        """Whether a trial has been here."""
        return self.record.exists() or self.lease.exists()


@dataclass(frozen=True, slots=True)
class SweepDir:
    """Every file name of a sweep's folder."""

    path: Path

    def trial(self, number: int) -> RunDir:
        """The folder of a trial."""
        return RunDir(self.path / str(number))

    @property
    def mark(self) -> Path:
        """Which command started this search, and whether the search is finished."""
        return self.path / "search.json"

    @property
    def owners(self) -> Path:
        """Which processes are at the sweep, while some are."""
        return self.path / "owners.json"

    def incumbent(self, engine: str | None) -> Path:
        """What a search that races holds the trials of an engine against: the best one so far."""
        name = "incumbent" if engine is None else f"incumbent-{engine.replace('/', '-')}"
        return self.path / f"{name}.json"

    @property
    def incumbents(self) -> tuple[Path, ...]:
        """Those of all engines."""
        return tuple(self.path.glob("incumbent*.json"))

    @property
    def records(self) -> tuple[Path, ...]:
        """The record of every trial that has left one."""
        return tuple(sorted(self.path.glob("*/record.json")))

    @property
    def ranking(self) -> Path:
        """The ranked table as CSV."""
        return self.path / "ranking.csv"

    @property
    def best(self) -> Path:
        """The best trial's overrides, command and metrics."""
        return self.path / "best.json"

    @property
    def best_dir(self) -> Path:
        """Everything needed to run the best trial elsewhere."""
        return self.path / "best"

    @property
    def study(self) -> Path:
        """The search's Optuna study, in SQLite."""
        return self.path / "study.db"

    @property
    def attempts(self) -> Path:
        """Folders of interrupted trials that were run again."""
        return self.path / "attempts"

    @property
    def report(self) -> Path:
        """The report, one self-contained page."""
        return self.path / "report.html"

    @property
    def summary_csv(self) -> Path:
        """One line per level of each trial, with every knob and metric."""
        return self.path / "summary.csv"

    @property
    def summary_parquet(self) -> Path:
        """The same with types."""
        return self.path / "summary.parquet"

    @property
    def tracker(self) -> Path:
        """The tracker's own folder: W&B's offline runs and what they refer to."""
        return self.path / "wandb"

    @property
    def tracker_key(self) -> Path:
        """The id of the sweep in the tracker."""
        return self.tracker / "sweep-id"

    @property
    def tracker_away(self) -> Path:
        """Which command has found the tracker away."""
        return self.tracker / "away"

    @property
    def tracker_unfinished(self) -> Path:
        """The ids of the runs that began online and have not ended, as empty files."""
        return self.tracker / "unfinished"

    @property
    def tracker_report(self) -> Path:
        """The id of the sweep's report in the tracker, once it has one."""
        return self.tracker / "report-id"

    @property
    def tracker_script(self) -> Path:
        """A script that creates the sweep's report in the tracker later."""
        return self.path / "wandb_report.py"

    @property
    def mlflow(self) -> Path:
        """What of the sweep is where in MLflow, and what waits to be sent there."""
        return self.path / "mlflow"

    @property
    def mlflow_away(self) -> Path:
        """Which command has found MLflow away."""
        return self.mlflow / "away"

    def mlflow_run(self, number: int) -> Path:
        """The id of a trial's run."""
        return self.mlflow / "runs" / str(number)

    def mlflow_waiting(self, what: int | str) -> Path:
        """An empty file while a trial, or `sweep`, waits to be sent."""
        return self.mlflow / "waiting" / str(what)

    @property
    def tracker_log(self) -> Path:
        """What the tracker's process printed."""
        return self.path / "tracker.log"

    def worker_log(self, number: int) -> Path:
        """What a worker process and its libraries printed outside of trials."""
        return self.path / "workers" / f"{number}.log"

    @property
    def bench_log(self) -> Path:
        """What the resident genai-bench runner printed outside of levels."""
        return self.path / "bench-runner.log"


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees either the old or the new file, even after a crash.

    Raises:
        OSError: the disk is full or the folder not writable; the old file is untouched.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def save(path: Path, item: object) -> None:
    """Write a value as JSON, atomically."""
    write_atomically(path, to_json(item) + "\n")


def make_new(wanted: Path) -> Path:
    """Make a folder that nobody has made before: `wanted`, else the same with _1, _2, ... at the end.

    Raises:
        OSError: it cannot be made.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for path in (wanted, *(wanted.with_name(f"{wanted.name}_{number}") for number in range(1, 10_000))):
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(wanted))


def put_aside(folder: Path) -> Path | None:
    """Nothing measured is thrown away: what was measured before gets another name, which is told."""
    if not folder.exists():
        return None
    names = (folder.with_name(f"{folder.name}~{number}") for number in count(1))
    return folder.rename(next(name for name in names if not name.exists()))


def insist_unused(run_dir: RunDir) -> None:
    """Check that no trial has been here.

    Raises:
        PreflightFailed: one has.
    """
    if run_dir.is_used:
        raise PreflightFailed(f"Run directory {run_dir.path} already contains a trial. Choose an empty one.")


def claim(run_dir: RunDir) -> None:
    """Check that a trial can write its record here: an unused, writable folder with free disk space.

    Raises:
        DiskFull: with what is free.
        PreflightFailed: naming what is missing.
    """
    where = run_dir.path
    try:
        where.mkdir(parents=True, exist_ok=True)
        insist_unused(run_dir)
        write_atomically(where / ".writable", "x" * 4096)
        (where / ".writable").unlink()
    except OSError as error:
        if disk.is_about_it(error):
            raise disk.full(where) from error
        raise PreflightFailed(
            f"Cannot write to the run directory {where}: {error.strerror or error}.",
            hint="Set another directory with hydra.run.dir=... or hydra.sweep.dir=..., or free some disk space.",
        ) from error
    if disk.is_full(where):
        raise disk.full(where)
