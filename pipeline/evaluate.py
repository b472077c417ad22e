"""Evaluates a sweep's winner and its baseline by lm-eval, where quality.evals names tasks, and says how they compare.

Each runs as a trial of its own by the sweep's own overrides, into evals/ of the sweep's folder: it deploys, is
evaluated instead of measured, and tears down. The recommendation stands whatever comes of it: a person judges.
"""

import os
import sys
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from pipeline import recheck
from pipeline.core import evaluation, files, readable
from pipeline.core.evaluation import FOLDER, Change, Evaluated
from pipeline.core.files import RunDir
from pipeline.core.record import Record
from pipeline.engines import lm_eval
from pipeline.report import evaluated, summary
from pipeline.report.summary import Finding

OWN = ("tracker", "cache", "quality.evals.now", "reason", "repeat_of", "phase", "rounds")  # keys that are set here


def finish(folder: Path, found: Finding) -> None:
    """Evaluate, print and save, if the sweep asks for it and there is a winner beside the baseline."""
    asked = [one for one in found.records if one.config.quality.evals.tasks]
    if not asked:
        return
    winner, baseline = found.verdict.recommended, found.verdict.baseline
    if winner is None or baseline is None or winner == baseline:
        sys.stdout.write("Evaluations: nothing to compare, as no configuration is recommended but the baseline.\n")
        return
    by_number = {one.number: one for one in found.records}
    done = []
    for role, number in (("baseline", baseline), ("winner", winner)):
        seen = _evaluated(folder / FOLDER, by_number[number], role)
        if seen is None:
            return
        done.append(seen)
    told = Evaluated(winner=winner, baseline=baseline, changes=compared(done[1], done[0]))
    files.save(folder / FOLDER / evaluated.FILE, told)
    sys.stdout.write("".join(f"{line}\n" for line in evaluated.lines(told)))
    summary.again(folder, found)  # the report and best/ have it, too


def compared(winner: RunDir, baseline: RunDir) -> tuple[Change, ...]:
    """The scores of two trials that were evaluated."""
    ours, theirs = (readable.read(Record, one.record).evaluation for one in (winner, baseline))
    if ours is None or theirs is None:
        return ()
    mine, others = (lm_eval.items(one.path / FOLDER, seen) for one, seen in ((winner, ours), (baseline, theirs)))
    return evaluation.compare(ours, theirs, mine, others)


def _evaluated(folder: Path, first: Record, role: str) -> RunDir | None:
    """The trial in which this configuration was evaluated, an earlier one's if it was the same; None: it failed."""
    if (had := _had(folder, first)) is not None:
        return had
    folder.mkdir(exist_ok=True)
    tasks = ", ".join(first.config.quality.evals.tasks)
    sys.stderr.write(f"Evaluates trial {first.number}, the {role}: {tasks} (quality=none: without)\n")
    place = files.make_new(folder / f"{first.number}-{datetime.now():%Y-%m-%d_%H-%M-%S}")  # noqa: DTZ005
    place.mkdir(exist_ok=True)
    run_dir = RunDir(place / "0")
    try:
        env, cwd, words = recheck.surroundings(first.origin, [], os.environ, Path.cwd())
    except ValueError as error:
        sys.stderr.write(f"Evaluations: {error}\n")
        return None
    own = [*words, *overrides(first), f"hydra.run.dir={run_dir.path}"]
    code = recheck.measure(own, env, cwd, log=place / "trial.log")
    seen = _read(run_dir)
    if seen is None or seen.evaluation is None:
        why = seen.failure.message if seen and seen.failure else f"exit code {code}, see {place / 'trial.log'}"
        sys.stderr.write(f"Trial {first.number}, the {role}, could not be evaluated: {why}\n")
        return None
    return run_dir


def overrides(first: Record) -> list[str]:
    """Those of a trial that is evaluated instead of measured."""
    kept = [word for word in first.overrides if word.lstrip("+").partition("=")[0] not in OWN]
    return [*kept, "tracker=none", "cache=null", "quality.evals.now=true"]


def _had(folder: Path, first: Record) -> RunDir | None:
    wanted = overrides(first)
    for path in sorted(folder.glob(f"{first.number}-*/0")):
        seen = _read(RunDir(path))
        if seen is not None and seen.evaluation is not None and set(wanted) <= set(seen.overrides):
            return RunDir(path)
    return None


def _read(run_dir: RunDir) -> Record | None:
    try:
        return readable.read(Record, run_dir.record)
    except (OSError, ValidationError):
        return None
