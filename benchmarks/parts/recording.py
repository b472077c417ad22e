"""What the scripts that record on real engines share: spaces and lists, sweeps that end with us, a quiet machine."""

import csv
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from hydra import initialize_config_dir

from benchmarks.parts import listed
from fakes.tiny_gguf import write_tiny_gguf
from pipeline.config import expand
from pipeline.core import objectives
from pipeline.core.files import SweepDir
from pipeline.core.places import CONF
from pipeline.core.record import Level, Record
from pipeline.core.schema import Config
from pipeline.machine import owner
from pipeline.machine.load import CROWDED_SHARE
from pipeline.report import summary
from pipeline.trial import preflight

ROOT = Path(__file__).resolve().parent.parent.parent
LEFT = "null"
LOOK_S = 2.0  # at the machine
ENDS_S = 120.0  # that a sweep has to take its server down
BUSY = 75  # exit code: EX_TEMPFAIL

Row = Mapping[str, str]  # a configuration: each knob, as an override spells it
Cells = dict[str, str | float | int]


@dataclass(frozen=True)
class Space:
    """What is recorded: the engine's knobs with their values, and what every trial has."""

    knobs: Mapping[str, Sequence[str]]
    words: tuple[str, ...]

    @property
    def default(self) -> Row:
        """Every knob left to the engine."""
        return dict.fromkeys(self.knobs, LEFT)

    def with_words(self, *more: str) -> "Space":
        """The same with further overrides for every trial."""
        return replace(self, words=(*self.words, *more))

    @property
    def swept(self) -> list[str]:
        """The knobs as overrides of a sweep."""
        return [f"{name}={','.join(values)}" for name, values in self.knobs.items()]


def drawn(space: Space, count: int, seed: int) -> list[Row]:
    """So many configurations beside the default: none that the rules refuse, none that comes to the same as another."""
    dice = random.Random(seed)  # noqa: S311 - a sample, the same for the same seed
    found: dict[str, Row] = {}
    with initialize_config_dir(str(CONF)):
        base = expand.base_of(space.words)
        known = {_comes_to(base, space.default)}
        for _ in range(100 * count):
            row = {name: dice.choice(values) for name, values in space.knobs.items()}
            told = _comes_to(base, row)
            if told is not None and told not in {*known, *found}:
                found[told] = row
            if len(found) == count:
                break
    return [*found.values()]


def _comes_to(base: Config, row: Row) -> str | None:
    """What the rules make of a configuration; None: it is refused."""
    foreseen = preflight.foresee(expand.with_knobs(base, [f"{name}={pick}" for name, pick in row.items()]))
    return None if foreseen.reasons("refused") else json.dumps(dict(foreseen.knobs), sort_keys=True, default=str)


def sweep_of(rows: Sequence[Row], folder: Path, space: Space) -> list[str]:
    """The command that measures the default, then these configurations, each once and at every level."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "list.json"
    path.write_text(json.dumps(rows))
    sweep = [f"hydra.sweep.dir={folder}", f"hydra.sweeper.n_trials={len(rows) + 1}", "hydra.sweeper.racing=false"]
    return command(*space.words, *space.swept, *sweep, "hydra.sweeper.confirm=0", *listed.overrides(path))


def command(*overrides: str) -> list[str]:
    """A sweep by the product's own code, in a process that ends when this one does."""
    return [sys.executable, "-m", listed.NAME, "-m", *overrides]


def run(argv: Sequence[str], log: Path, *, limit_s: float | None = None) -> int | None:
    """Its exit code; None: it was stopped after `limit_s`, by SIGTERM, for a shell may have us ignore Ctrl-C."""
    owner.announce()
    with log.open("ab") as out, subprocess.Popen(argv, cwd=ROOT, stdout=out, stderr=out, env=os.environ) as child:
        try:
            return child.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """Let it take its server down; a keeper does that for one that does not end."""
    child.terminate()
    try:
        child.wait(timeout=ENDS_S)
    except subprocess.TimeoutExpired:
        child.kill()


def records(folder: Path) -> list[Record]:
    """What a sweep has measured, by number; of trials that a stop broke off, nothing."""
    found = [one for one in summary.read(SweepDir(folder)) if one.status in {"ok", "failed"}]
    return sorted(found, key=lambda one: one.number)


def knobs_of(record: Record, names: Sequence[str]) -> dict[str, str]:
    """The configuration of a trial."""
    told = dict(word.lstrip("+").partition("=")[::2] for word in record.overrides)
    return {name: told.get(name, LEFT) for name in names}


def cells(record: Record, space: Space) -> Cells:
    """A trial as a line of a table that `servetune replay` reads; seconds, and scores of which more is better."""
    metric = objectives.names(record.config)[0]
    found: Cells = {**knobs_of(record, [*space.knobs]), "default": int(record.is_baseline)}
    found["score"] = _number(record.objective.get(metric) if record.objective else None)
    found["failure"] = str(record.failure.kind) if record.failure else ""
    steps = {step.step: step.seconds for step in record.steps}
    client_s = steps.get("bench_start", 0.0)  # once in a sweep
    found["startup_s"] = round(sum(steps.values()) - client_s - sum(level.elapsed_s for level in record.levels), 3)
    for level in record.levels:
        found |= _level(level, metric, record)
    found["_health_s"], found["_client_s"] = round(steps.get("health", 0.0), 3), round(client_s, 3)
    found["_crowded"] = int(any(level.load is not None and level.load.is_crowded for level in record.levels))
    found["_metric"], found["_started_at"] = metric, record.started_at.isoformat(timespec="seconds")
    found["_engine"] = record.engine_version or record.config.runtime.version or ""
    return found


def _level(level: Level, metric: str, record: Record) -> Cells:
    counts = objectives.counted([level], record.config.slo)
    score = objectives.score(metric, level, record.config) if counts else None
    seen = level.metrics
    return {
        f"score@x{level.concurrency}": _number(score),
        f"seconds@x{level.concurrency}": round(level.elapsed_s, 3) if seen else "",
        f"_ttft_p95_s@x{level.concurrency}": _number(seen.ttft.p95 if seen and seen.ttft else None),
        f"_tpot_mean_s@x{level.concurrency}": _number(seen.tpot.mean if seen and seen.tpot else None),
        f"_cut@x{level.concurrency}": int(bool(seen and seen.is_cut)),
    }


def _number(seen: float | None) -> float | str:
    return "" if seen is None else float(f"{seen:.5g}")


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a table; none where there is none yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, lines: Sequence[Cells]) -> None:
    """Add lines to a table at once, whatever columns they bring."""
    every: list[Mapping[str, object]] = [*read(path), *lines]
    names = dict.fromkeys(name for one in every for name in one)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    with beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*names], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(every)
    beside.replace(path)


def others_cores() -> float:
    """How many cores the rest of the machine keeps busy while we sleep."""
    return psutil.cpu_percent(interval=LOOK_S) / 100 * (psutil.cpu_count() or 1)


def is_quiet(patience_s: float) -> bool:
    """Whether nothing else runs, if need be after a wait."""
    limit, deadline = CROWDED_SHARE * (psutil.cpu_count() or 1), time.monotonic() + patience_s
    while (busy := others_cores()) > limit:
        if time.monotonic() >= deadline:
            print(f"The machine is busy: {busy:.1f} cores by other programs, at most {limit:.1f} wanted.")
            return False
    return True


def commit(paths: Sequence[Path], subject: str) -> None:
    """A commit of these files alone."""
    names = [str(path) for path in paths]
    subprocess.run(["git", "add", "--", *names], cwd=ROOT, check=True)
    subprocess.run(["git", "commit", "--quiet", "-m", subject, "--", *names], cwd=ROOT, check=True)


def batched(rows: Sequence[Row], size: int) -> list[Sequence[Row]]:
    """So many at a time, the last ones perhaps fewer."""
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def until(limit_s: float | None) -> Iterator[float]:
    """The seconds that are left, again and again, while there are any; infinite without a limit."""
    start = time.monotonic()
    while (left := float("inf") if limit_s is None else limit_s - (time.monotonic() - start)) > 0:
        yield left


def played(folder: Path) -> Space:
    """A space of the tests' stand-ins for engine and load generator: quick, and its numbers mean nothing."""
    tests = ROOT / "tests"
    os.environ |= {
        "SERVETUNE_STATE_DIR": str(folder / "state"), "SERVETUNE_TESTS": str(tests), "STUB_BENCH_RATE": "slots"
    }  # fmt: skip
    words = (
        f"hydra.searchpath=[file://{tests}/fakes/conf]", "runtime=stub", "traffic=two_levels", "tracker=none",
        "quality=none", "model=gguf", f"model.path={write_tiny_gguf(folder / 'tiny.gguf')}", "bench.runner=cli",
        f"bench.program={tests}/fakes/bench/genai-bench",
    )  # fmt: skip
    return Space(knobs={"parallel": ("null", "1", "2", "4", "8"), "load_s": ("null", "0.1", "0.2")}, words=words)
