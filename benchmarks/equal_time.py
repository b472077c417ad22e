"""Searches on the real llama.cpp at equal wall-clock: ours, random, and Optuna's TPE as it comes.

Each strategy has six minutes for each of five seeds, from the command to its end; what it found best is measured again
in rounds, next to the engine's defaults. Without --run it prints the table of benchmarks/equal_time.json and what is
left. Run it with nothing else running: a busy machine ends it. The same command goes on after any interruption.
"""

import argparse
import json
import math
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from benchmarks import record_tables
from benchmarks.parts import equal, recording
from benchmarks.parts.equal import OURS, Found, Search
from benchmarks.parts.recording import Space
from pipeline.core import objectives
from pipeline.core.record import Record
from support.places import ROOT

STRATEGIES: Mapping[str, Sequence[str]] = {
    OURS: ["hydra.sweeper.confirm=0"],
    "random": [
        "hydra.sweeper.confirm=0", "hydra/sweeper/sampler=random", "hydra.sweeper.baseline=false",
        "hydra.sweeper.racing=false",
    ],
    "TPE as it comes": ["hydra/sweeper=optuna"],
}  # fmt: skip
ENDS_S = 30.0  # that a search may take beyond its time
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Plan:
    """How much is run, and where it is written."""

    space: Space
    result: Path
    folder: Path
    budget_s: float = 360.0
    seeds: int = 5
    rounds: int = 6
    strategies: Sequence[str] = tuple(STRATEGIES)
    trials: int = 1000  # of a search, at most: more than there is time for
    guess_s: float = 15.0  # of a trial


def main(argv: Sequence[str] | None = None) -> int:
    """Run, or print; 75 if the machine is busy, 1 if a sweep failed."""
    options = arguments().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what we have started ends with us
    if options.smoke:
        return smoke()
    plan = Plan(record_tables.LLAMACPP, ROOT / "benchmarks" / "equal_time.json", ROOT / "outputs" / "equal_time")
    code = run(plan, options) if options.run else 0
    found = read(plan)
    print("\n".join([*equal.table(found), "", left(plan, found)]))
    return code


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="go on with what is left")
    parser.add_argument("--limit-s", type=float, help="begin nothing that would not end within so many seconds")
    parser.add_argument("--commit", action="store_true", help="commit the result after each search and round")
    parser.add_argument("--busy", action="store_true", help="run on a busy machine too: only to try it")
    parser.add_argument("--smoke", action="store_true", help="two trials each, of stand-ins: only whether it runs")
    return parser


def run(plan: Plan, options: argparse.Namespace) -> int:
    """What is left, until it is done, the time is over or something is wrong."""
    for left_s in recording.until(options.limit_s):
        found = read(plan)
        strategy, seed = next(unsearched(plan, found), (None, 0))
        is_search = strategy is not None
        if not is_search and len(found.rounds) >= plan.rounds:
            break
        if left_s < (plan.budget_s + ENDS_S if is_search else round_s(plan, found)):
            break
        if not options.busy and not recording.is_quiet(PATIENCE_S):
            return recording.BUSY
        if strategy is not None:
            found.searches.append(search(plan, strategy, seed))
        elif (measured := measure(plan, found)) is not None:
            found.rounds.append(measured)
        else:
            return 1
        write(plan, found)
        if options.commit:
            recording.commit([plan.result], f"Record equal time: {left(plan, found)}")
        print(left(plan, found), flush=True)
    return 0


def unsearched(plan: Plan, found: Found) -> Iterator[tuple[str, int]]:
    """Strategies take turns at being first, so that none has the cooler machine."""
    had = {(one.strategy, one.seed) for one in found.searches}
    for seed in range(plan.seeds):
        turn = seed % len(plan.strategies)
        for strategy in (*plan.strategies[turn:], *plan.strategies[:turn]):
            if (strategy, seed) not in had:
                yield strategy, seed


def search(plan: Plan, strategy: str, seed: int) -> Search:
    """One search, in a folder that was not there before: one that was broken off has lost its clock."""
    began = datetime.now(UTC)
    folder = plan.folder / f"{strategy.replace(' ', '-')}-{seed}-{began:%Y-%m-%d_%H-%M-%S}"
    folder.mkdir(parents=True)
    own = [f"hydra.sweeper.n_trials={plan.trials}", f"hydra.sweeper.sampler.seed={seed}", f"hydra.sweep.dir={folder}"]
    argv = recording.command(*plan.space.words, *plan.space.swept, *STRATEGIES[strategy], *own)
    recording.run(argv, folder / "sweep.log", limit_s=plan.budget_s)
    return result(recording.records(folder), plan, strategy, seed, began)


def result(records: Sequence[Record], plan: Plan, strategy: str, seed: int, began: datetime) -> Search:
    """What the records of a search say. A raced trial is no winner: not all of its levels were measured."""
    whole = [(score, one) for one in records if (score := score_of(one)) is not None and not one.is_raced]
    score, best = max(whole, key=lambda pair: pair[0], default=(None, None))
    return Search(
        strategy=strategy,
        seed=seed,
        began=began.isoformat(timespec="seconds"),
        trials=len(records),
        failed=sum(one.status == "failed" for one in records),
        raced=sum(one.is_raced for one in records),
        crowded=sum(any(each.load is not None and each.load.is_crowded for each in one.levels) for one in records),
        winner=None if best is None else recording.knobs_of(best, [*plan.space.knobs]),
        score=score,
        curve=[*curve(whole, began)],
    )


def score_of(record: Record) -> float | None:
    """The objective of a trial that ended well."""
    name = objectives.names(record.config)[0]
    return record.objective[name] if record.status == "ok" and record.objective else None


def curve(whole: Sequence[tuple[float, Record]], began: datetime) -> Iterator[tuple[float, float]]:
    """The best score so far, and when it was there."""
    best = -math.inf
    for score, record in sorted(whole, key=lambda pair: pair[1].ended_at):
        if score > best:
            best = score
            yield round((record.ended_at - began).total_seconds(), 1), score


def measure(plan: Plan, found: Found) -> dict[str, Any] | None:
    """One round: the defaults, then every winner, in an order of its own; None if the sweep failed."""
    number = len(found.rounds)
    folder, rows = plan.folder / f"round-{number}", equal.winners(found)
    random.Random(number).shuffle(rows)  # noqa: S311 - an order
    code = recording.run(recording.sweep_of(rows, folder, plan.space), folder / "sweep.log")
    records = [one for one in recording.records(folder) if one.same_as is None]
    if len(records) < len(rows) + 1:
        print(f"Round {number} ended with exit code {code} after {len(records)} trials: {folder / 'sweep.log'}")
        return None
    scores = {equal.key(recording.knobs_of(one, [*plan.space.knobs])): score_of(one) for one in records}
    return {"began": records[0].started_at.isoformat(timespec="seconds"), "scores": scores}


def left(plan: Plan, found: Found) -> str:
    """What is there, and how long the rest will take."""
    searches, rounds = len([*unsearched(plan, found)]), plan.rounds - len(found.rounds)
    rest_s = searches * (plan.budget_s + ENDS_S) + rounds * round_s(plan, found)
    wanted = plan.seeds * len(plan.strategies)
    had = f"{wanted - searches} of {wanted} searches, {len(found.rounds)} of {plan.rounds} rounds"
    return f"{had}; about {rest_s / 60:.0f} minutes are left" if searches + rounds else had


def round_s(plan: Plan, found: Found) -> float:
    """How long a round takes: one trial for each winner there is or will be."""
    count = len(equal.winners(found)) + len([*unsearched(plan, found)]) + 1
    return count * plan.guess_s


def read(plan: Plan) -> Found:
    """What is there."""
    if not plan.result.exists():
        return Found(plan.budget_s)
    told = json.loads(plan.result.read_text())
    return Found(told["budget_s"], [Search(**one) for one in told["searches"]], told["rounds"])


def write(plan: Plan, found: Found) -> None:
    beside = plan.result.with_suffix(".part")
    beside.write_text(json.dumps(asdict(found), indent=1) + "\n")
    beside.replace(plan.result)


def smoke() -> int:
    """Two trials of each strategy on a made-up engine, and a round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        space = recording.played(folder)
        few = [name for name in STRATEGIES if name != "random"]
        plan = Plan(
            space, folder / "found.json", folder / "runs", seeds=1, rounds=1, trials=2, strategies=few, guess_s=1.0
        )
        code = run(plan, arguments().parse_args(["--busy"]))
        found = read(plan)
        print("\n".join([*equal.table(found), "", left(plan, found)]))
        return code or int(len(found.searches) < len(few) or not found.rounds)


if __name__ == "__main__":
    start = time.monotonic()
    code = main()
    print(f"took {time.monotonic() - start:.0f} s")
    sys.exit(code)
