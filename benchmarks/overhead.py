"""What the pipeline itself costs, measured on this machine against its budgets; about two and a half minutes.

Times are compared with one another inside one run (a level with `genai-bench --version`), so a slow or shared machine
changes the numbers more than the verdicts. Everything is real: llama.cpp's server, genai-bench, W&B offline.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import psutil
from hydra import initialize_config_dir

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fakes.tiny_gguf import write_tiny_gguf
from parts.llama import serving
from pipeline import bench
from pipeline.bench.cli import Cli
from pipeline.bench.resident import Resident
from pipeline.config import command_line
from pipeline.core.files import SweepDir
from pipeline.core.places import CONF
from pipeline.core.record import Record
from pipeline.core.values import load
from pipeline.machine import process
from pipeline.models import assets
from support.measuring import Planned, planned, result, run
from support.places import ROOT

LEVEL_SHARE = 0.10  # of one `genai-bench --version`
TRIAL_S, NOTICED_S = 1.5, 1.0
STOPS = {signal.SIGKILL: ("we are killed (SIGKILL)", 3.0), signal.SIGINT: ("Ctrl-C", 5.0)}
SMALL = ("traffic.min_requests=8", "traffic.requests_per_user=2")
QUICK = ("hydra.sweeper.confirm=0", "traffic.concurrencies=[1]")
ENDLESS = ("traffic.min_requests=1000000", "traffic.max_time_per_level_s=300", "traffic.concurrencies=[2]")


@dataclass(frozen=True)
class Row:
    """One line of the table. Without a budget it is there to compare with."""

    what: str
    seen: float
    unit: str = "s"
    budget: float | None = None

    @property
    def ok(self) -> bool | None:
        """Whether the budget is held."""
        return None if self.budget is None else self.seen <= self.budget


@dataclass(frozen=True)
class Bench:
    """Where things are, and how often they are measured."""

    model: Path
    folder: Path
    versions: int
    levels: int
    trials: int
    calls_plainly: bool
    stops: tuple[signal.Signals, ...]
    more: tuple[str, ...] = ()  # overrides of the sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table; 1 if a budget is not held."""
    options = arguments().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what we have started ends with us
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SERVETUNE_STATE_DIR"] = str(folder / "state")
        setup = sized(options, folder)
        rows = []
        for row in measured(setup):
            rows.append(row)
            print(line(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps([{**asdict(row), "ok": row.ok} for row in rows], indent=2) + "\n")
    if options.smoke:
        return 0
    missed = [row for row in rows if row.ok is False]
    print(f"{len(missed)} budgets missed" if missed else "all budgets held")
    return 1 if missed else 0


def sized(options: argparse.Namespace, folder: Path) -> Bench:
    """How often each thing is measured."""
    gguf = model(options.model, folder)
    if options.smoke:
        return Bench(gguf, folder, versions=1, levels=1, trials=2, calls_plainly=False, stops=(), more=QUICK)
    return Bench(gguf, folder, options.versions, options.levels, options.trials, calls_plainly=True, stops=tuple(STOPS))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="tiny (random, made here), gemma, or a GGUF file")
    parser.add_argument("--versions", type=int, default=3, help="how often genai-bench --version is called")
    parser.add_argument("--levels", type=int, default=6, help="levels of the resident runner")
    parser.add_argument("--trials", type=int, default=5, help="trials of the sweep, the first listed by itself")
    parser.add_argument("--smoke", action="store_true", help="most once and no budgets: only whether it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table there")
    return parser


def model(name: str, folder: Path) -> Path:
    if name == "tiny":
        return write_tiny_gguf(folder / "tiny.gguf")
    if name != "gemma":
        return Path(name).resolve()
    with initialize_config_dir(str(CONF)):
        return assets.prepare(command_line.to_config(command_line.composed([])).model).model_path


def measured(setup: Bench) -> Iterator[Row]:
    print(f"{'what':<62} {'seen':>9} {'budget':>9}  ok")
    version = median(timed(version_call) for _ in range(setup.versions))
    yield Row("genai-bench --version", version)
    if setup.calls_plainly:
        yield from plain_call(setup)
    beyond = resident_levels(setup)
    yield Row(f"a level beyond measuring, resident (median of {len(beyond)})", median(beyond))
    yield Row("  as a share of genai-bench --version", median(beyond) / version, "", LEVEL_SHARE)
    yield from trials(setup)
    yield Row("engine killed, until the trial has noticed", until_noticed(setup), budget=NOTICED_S)
    for number in setup.stops:
        what, budget = STOPS[number]
        yield Row(f"{what}, until all of ours is gone", until_gone(setup, number), budget=budget)


def line(row: Row) -> str:
    budget = "" if row.budget is None else f"{row.budget:.2f} {row.unit}"
    verdict = {None: "", True: "yes", False: "NO"}[row.ok]
    return f"{row.what:<62} {f'{row.seen:.3g} {row.unit}':>9} {budget:>9}  {verdict}".rstrip()


def timed(act: Callable[[], object]) -> float:
    start = time.monotonic()
    act()
    return time.monotonic() - start


def version_call() -> None:
    subprocess.run([bench.installed_program(), "--version"], check=True, capture_output=True)


def plain_call(setup: Bench) -> Iterator[Row]:
    """One level by the command itself."""
    with level(setup, "plain") as planned_level:
        wall = timed(lambda: run(Cli(bench.installed_program()), planned_level.job))
        seen = duration(planned_level)
    yield Row("a plain genai-bench call for one level", wall)
    yield Row("  of it not measuring", wall - seen)


def resident_levels(setup: Bench) -> list[float]:
    """Time beyond measuring of each level, the runner being ready."""
    beyond = []
    runner = Resident(setup.folder / "resident.log")
    try:
        for number in range(setup.levels):
            with level(setup, f"resident-{number}") as planned_level:
                runner.start(planned_level.plan.tokenizer_dir)
                runner.wait_ready(timeout_s=180, watch=lambda: None)
                wall = timed(lambda job=planned_level.job: run(runner, job))  # type: ignore[misc]
                beyond.append(wall - duration(planned_level))
    finally:
        runner.close()
    return beyond


@contextmanager
def level(setup: Bench, name: str) -> Iterator[Planned]:
    """A level on a fresh server."""
    folder = setup.folder / name
    folder.mkdir()
    with serving(setup.model, folder) as server:
        yield planned(setup.model, folder, server.url)


def duration(planned_level: Planned) -> float:
    seconds: float = result(planned_level.job)["aggregated_metrics"]["run_duration"]
    return seconds


def trials(setup: Bench) -> Iterator[Row]:
    """A real sweep of one process; how long each trial took beyond what the engine and the measuring took."""
    folder = setup.folder / "sweep"
    slots = ",".join(["null", *map(str, range(1, setup.trials))])
    with started(setup, folder, "-m", f"n_parallel={slots}", *SMALL, *setup.more) as program:
        program.wait()
    records = sorted((load(Record, path) for path in SweepDir(folder).records), key=lambda record: record.number)
    first, *later = own_times(records)
    yield Row("first trial, own time (waits for the import of genai-bench)", first)
    yield Row(f"later trials, own time (median of {len(later)})", median(later), budget=TRIAL_S)


def own_times(records: Sequence[Record]) -> list[float]:
    """From each trial's start to the next one's (the last: its steps), less engine start, warm-up and measuring.

    What the runner adds to a level counts as ours, teardown too: llama.cpp's server ends at once when told.
    """
    starts = [record.started_at for record in records[1:]]
    walls = [(then - record.started_at).total_seconds() for record, then in zip(records, starts, strict=False)]
    walls.append(sum(step.seconds for step in records[-1].steps))
    return [wall - others(record) for wall, record in zip(walls, records, strict=True)]


def others(record: Record) -> float:
    """Seconds that are the engine's or the measurement's."""
    waiting = sum(step.seconds for step in record.steps if step.step in {"health", "warmup"})
    return waiting + sum(level.metrics.run_duration_s for level in record.levels if level.metrics)


@contextmanager
def started(setup: Bench, folder: Path, *overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m pipeline ...` on the model, in a process group of its own as a shell gives it."""
    flags = [word for word in overrides if word == "-m"]
    where = [f"hydra.run.dir={folder}/0", f"hydra.sweep.dir={folder}", "model=gguf", f"model.path={setup.model}"]
    argv = [*process.python("pipeline"), *flags, *where, *(word for word in overrides if word not in flags)]
    env = {**os.environ, "WANDB_MODE": "offline"}
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, process_group=0) as program:
        try:
            yield program
        finally:
            program.kill()


@contextmanager
def measuring(setup: Bench, name: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, psutil.Process]]]:
    """A trial in the middle of a level: the program, and its processes by name with the engine among them."""
    folder = setup.folder / name
    with started(setup, folder, *ENDLESS) as program:
        is_measuring = lambda: any(folder.glob("0/bench/*/*/experiment_metadata.json"))  # noqa: E731
        if not process.wait_until(is_measuring, timeout_s=180):
            raise TimeoutError(f"{name}: no level was started; see {folder}")
        time.sleep(0.5)
        engine = json.loads((folder / "0" / "lease.json").read_text())["pid"]
        family = psutil.Process(program.pid).children(recursive=True)
        yield program, {"engine" if one.pid == engine else str(one.pid): one for one in family}


def until_noticed(setup: Bench) -> float:
    """From the engine's death to the start of teardown, as the trial's record tells it."""
    with measuring(setup, "noticed") as (program, family):
        killed_at = time.time()
        family["engine"].kill()
        program.wait()
    record = load(Record, setup.folder / "noticed" / "0" / "record.json")
    teardown = sum(step.seconds for step in record.steps if step.step in {"teardown", "record"})
    return record.ended_at.timestamp() - killed_at - teardown


def until_gone(setup: Bench, number: signal.Signals) -> float:
    """From the signal (Ctrl-C goes to the whole group) to the end of the last process of ours, engine included."""
    with measuring(setup, number.name) as (program, family):
        start = time.monotonic()
        os.killpg(program.pid, number)
        process.wait_until(
            lambda: program.poll() is not None and not any(map(process.is_running, family.values())),
            timeout_s=60,
            interval_s=0.02,
        )
        return time.monotonic() - start


if __name__ == "__main__":
    sys.exit(main())
