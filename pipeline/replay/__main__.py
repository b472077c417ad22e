"""`python -m pipeline.replay [TABLE ...]`: compare search strategies on recorded measurements, without a server.

Prints a table and writes replay.json and replay.html.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from pipeline.core import files
from pipeline.core.errors import ConfigError, Interrupted, PipelineError
from pipeline.core.values import to_json
from pipeline.core.words import visible
from pipeline.machine import companion, entry
from pipeline.replay import landscape, lessons, page, results, shown, sources, strategies, work
from pipeline.replay.play import Budget, Run
from pipeline.replay.results import Results
from pipeline.replay.tables import Options
from pipeline.replay.work import Setup

DONE, FAILED, BAD_INPUT = 0, 1, 2
REFERENCES = ("random", "tpe", "tuner")
LEARNING = (strategies.LEARNED, "tuner", "tpe")  # where past sweeps are known
WIDTH = 180


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.replay") -> int:
    """The command. 0: done; 1: a process died; 2: what was given cannot be replayed."""
    given = _parser(prog).parse_args(argv)
    companion.tidy()
    command = f"{prog} {shlex.join(argv if argv is not None else sys.argv[1:])}"
    try:
        setup = _setup(given)
        setup, facts = _opened(setup, given.learn_from)
        with _folder(given.out) as folder:
            found = _replayed(setup, facts, given)
            files.write_atomically(folder / "replay.json", to_json(found))
            files.write_atomically(folder / "replay.html", page.render(found, command))
    except (PipelineError, OSError) as error:
        sys.stderr.write(visible(f"error: {error}\n"))
        return BAD_INPUT if isinstance(error, ConfigError | OSError) else FAILED
    shown.to(Console(width=WIDTH), found)
    sys.stdout.write(f"Written: {folder}/replay.html, {folder}/replay.json\n")
    return DONE


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Compare search strategies on recorded measurements instead of servers, under a simulated clock: "
        "tables (npz, CSV, Parquet), folders of past sweeps, made-up landscapes. Prints a table and writes replay.html "
        "and replay.json. Exit code 2: something that was given cannot be used.",
    )
    known = "; ".join(f"{name}: {what}" for name, what in strategies.NAMED.items())
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=_TABLE)
    parser.add_argument("--strategies", metavar="NAMES", help=f"separated by spaces. {known}; or any sampler's option, "
                        "with keys after a colon (tpe:n_startup_trials=5,baseline=true)")  # fmt: skip
    parser.add_argument("--learn-from", nargs="+", metavar="TABLE", default=(), help="behind the tables: landscapes of "
                        "which the search knows a past sweep, where they share a knob; never the one that it is at. "
                        f"Default of --strategies then: {' '.join(LEARNING)}")  # fmt: skip
    parser.add_argument("--reference", metavar="NAMES", help="strategies that the others are compared with; default: "
                        f"those of {' and '.join(REFERENCES)} that are replayed")  # fmt: skip
    for name, default, what in _NUMBERS:
        parser.add_argument(
            f"--{name}", type=_count, metavar="N", default=default, help=f"{what}; default: %(default)s"
        )
    parser.add_argument("--out", type=Path, default=Path("replay"), metavar="FOLDER", help="to write to; default: "
                        "%(default)s. A folder that is there gets a number")  # fmt: skip
    parser.add_argument("--score", default="score", metavar="COLUMN", help="of CSV and Parquet; default: %(default)s")
    parser.add_argument("--noise", type=_share, metavar="SHARE", help="standard deviation of a measurement, e.g. 0.03; "
                        "default: a sweep's own, else drawn from 0.01 to 0.06 for each table")  # fmt: skip
    parser.add_argument("--default-at", type=_share, metavar="SHARE", help="take the configuration whose score is this "
                        "share of the best for the engine's defaults, e.g. 0.97")  # fmt: skip
    return parser


_TABLE = (
    "file (.npz, .csv, .parquet), folder of such files, folder of a sweep, synthetic, or synthetic:NAME; default: "
    "synthetic, all of our made-up landscapes"
)
_NUMBERS = (
    ("seeds", 20, "searches of each strategy on each table"),
    ("trials", 40, "budget: the time of so many whole trials that follow each other"),
    ("slots", 1, "trials at once"),
    ("workers", os.cpu_count() or 1, "processes"),
)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, at least 1.")
    return int(text)


def _share(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (found := float(text)) <= 1:
            return found
    raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 to 1.")


def _setup(given: argparse.Namespace) -> Setup:
    usual = LEARNING if given.learn_from else strategies.usual()
    named = given.strategies.replace(";", " ").split() if given.strategies is not None else usual
    if not named:
        raise ConfigError("--strategies names none.")
    if given.reference is not None and (unknown := [name for name in given.reference.split() if name not in named]):
        raise ConfigError(f"--reference {unknown[0]}: it is not replayed. Replayed are {', '.join(named)}.")
    made = strategies.made(named)
    if any(one.learn for one in made) != bool(given.learn_from):
        raise ConfigError(f"--learn-from and a strategy that learns need each other: {strategies.LEARNED}.")
    return Setup(
        sources=tuple(sources.found(given.tables)),
        options=Options(score=given.score, noise=given.noise, default_at=given.default_at),
        strategies=tuple(made),
        seeds=given.seeds,
        budget=Budget(trials=given.trials, slots=given.slots),
    )


def _opened(setup: Setup, learn_from: Sequence[str]) -> tuple[Setup, list[dict[str, Any]]]:
    """With what each landscape learns from, and the facts of each."""
    there = {one: sources.opened(one, setup.options) for one in setup.sources}
    _check_names([one.name for one in there.values()])
    if not learn_from:
        return setup, [landscape.facts(one) for one in there.values()]
    teachers = [(one, there.get(one) or sources.opened(one, setup.options)) for one in sources.found(learn_from)]
    taught = lessons.taught([*there.values()], teachers)
    if alone := [one.name for one in there.values() if one.name not in taught]:
        sys.stderr.write(f"Left out: {', '.join(alone)}: no knob in common with another one of --learn-from.\n")
    known = {source: one for source, one in there.items() if one.name in taught}
    learns = {name: tuple(some) for name, some in taught.items()}
    facts = [
        {**landscape.facts(one), "learns_from": [sources.name_of(each) for each in learns[one.name]]}
        for one in known.values()
    ]
    return replace(
        setup, sources=tuple(known), learn_from=learns, teacher=strategies.made([strategies.TUNER])[0]
    ), facts


def _check_names(names: Sequence[str]) -> None:
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice:
        raise ConfigError(f"Two landscapes are called {twice}: rename one of the files.")


@contextmanager
def _folder(wanted: Path) -> Iterator[Path]:
    """Made before the work begins; gone again if nothing was written to it."""
    if wanted.exists() and not wanted.is_dir():
        raise ConfigError(f"--out {wanted}: expected a folder, seen something else.")
    try:
        made = files.make_new(wanted)
    except OSError as error:
        raise ConfigError(f"--out {wanted}: {error.strerror}. Expected a folder that can be made.") from error
    try:
        yield made
    finally:
        with suppress(OSError):
            made.rmdir()


def _replayed(setup: Setup, facts: Sequence[Mapping[str, Any]], given: argparse.Namespace) -> Results:
    """Everything, while a bar shows how far it is; if a signal stops it, what is done so far is shown."""
    runs: list[Run] = []
    began = time.monotonic()
    console = Console(stderr=True)
    columns = ("searches", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=setup.size)
            for run in work.runs(setup, given.workers):
                runs.append(run)
                bar.advance(task)
    except Interrupted:
        sys.stderr.write(f"Stopped after {len(runs)} of {setup.size} searches. Nothing was written.\n")
        if done := results.whole(runs, [one.name for one in setup.strategies], setup.seeds):
            shown.to(Console(width=WIDTH), _results(done, setup, facts, given, time.monotonic() - began))
        raise
    return _results(runs, setup, facts, given, time.monotonic() - began)


def _results(
    runs: Sequence[Run], setup: Setup, facts: Sequence[Mapping[str, Any]], given: argparse.Namespace, real_s: float
) -> Results:
    there = {run.landscape for run in runs}
    known = [one for one in facts if one["name"] in there]
    names, order = [one["name"] for one in known], [one.name for one in setup.strategies]
    references = REFERENCES if given.reference is None else given.reference.split()
    ordered = sorted(runs, key=lambda run: (names.index(run.landscape), run.seed, order.index(run.strategy)))
    return results.made(ordered, known, setup.seeds, setup.budget, references, real_s=real_s)


if __name__ == "__main__":
    sys.exit(entry.run(main))
