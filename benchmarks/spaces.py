"""What `space=quick` finds on a real engine, next to the best of a table (record_tables.py) of the same traffic.

The space is searched as a user does, to the end of its confirmation. What it recommends, the defaults and the best rows
of the table are then measured in rounds. Without --run it prints benchmarks/spaces.json. Run it with nothing else
running: a busy machine ends it. The same command goes on after any interruption.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from benchmarks import record_tables
from benchmarks.equal_time import score_of
from benchmarks.parts import equal, recording
from benchmarks.parts.recording import Row, Space
from support.places import ROOT

PATIENCE_S = 120.0
RIVALS = 3  # rows of a table that are measured again: by one measurement alone, none is known to be the best

Told = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """One search, the table it is held against, and where it is written."""

    name: str
    table: Path
    space: Space
    result: Path
    folder: Path
    search: Sequence[str] = ("space=quick",)
    rounds: int = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Run, or print; 75 if the machine is busy, 1 if a sweep failed."""
    options = arguments().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what we have started ends with us
    if options.smoke:
        return smoke()
    result = ROOT / "benchmarks" / "spaces.json"
    code = run(planned(options.run, result), busy=options.busy) if options.run else 0
    print("\n".join(table(read(result))))
    return code


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", choices=[*record_tables.TABLE], help="search beside this table, or go on with it")
    parser.add_argument("--busy", action="store_true", help="run on a busy machine too: only to try it")
    parser.add_argument("--smoke", action="store_true", help="a tiny search of stand-ins: only whether it runs")
    return parser


def planned(name: str, result: Path) -> Plan:
    recorded = record_tables.TABLE[name]
    space = recorded.space.with_words(*recorded.prepare())
    return Plan(name, recorded.path, space, result, ROOT / "outputs" / "spaces" / name)


def run(plan: Plan, *, busy: bool) -> int:
    """What is left of it."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    if not busy and not recording.is_quiet(PATIENCE_S):
        return recording.BUSY
    told = read(plan.result).get(plan.name) or searched(plan)
    if told is None:
        return 1
    write(plan, told)
    while len(told["rounds"]) < plan.rounds:
        if not busy and not recording.is_quiet(PATIENCE_S):
            return recording.BUSY
        scores = measured(plan, told, len(told["rounds"]))
        if scores is None:
            return 1
        told["rounds"].append(scores)
        write(plan, told)
    return 0


def searched(plan: Plan) -> Told | None:
    """The search, and the best rows of the table; None if it ended without a recommendation."""
    folder, began = plan.folder / "search", time.monotonic()
    code = recording.run(
        recording.command(*plan.space.words, *plan.search, f"hydra.sweep.dir={folder}"), plan.folder / "search.log"
    )
    took_s = time.monotonic() - began
    path = folder / "best.json"
    if code or not path.exists():
        print(f"The search ended with exit code {code}: {plan.folder / 'search.log'}")
        return None
    words = {word.lstrip("+").partition("=")[0] for word in plan.space.words}
    found = [word.lstrip("+").partition("=")[::2] for word in json.loads(path.read_text())["overrides"]]
    return {
        "search": list(plan.search),
        "trials": len(recording.records(folder)),
        "took_s": round(took_s, 1),
        "table_s": round(sum(record_tables.taken_s(line) for line in once(plan)), 1),
        "table_rows": len(once(plan)),
        "winner": {name: pick for name, pick in found if name not in words | {"space"} and pick != recording.LEFT},
        "rivals": rivals(plan),
        "rounds": [],
    }


def once(plan: Plan) -> list[dict[str, str]]:
    """The first measurement of each configuration of the table."""
    found: dict[str, dict[str, str]] = {}
    for line in recording.read(plan.table):
        found.setdefault(equal.key(knobs(plan, line)), line)
    return [*found.values()]


def knobs(plan: Plan, line: Mapping[str, str]) -> Row:
    return {name: line[name] for name in plan.space.knobs}


def rivals(plan: Plan) -> list[Row]:
    """The rows of the table with the highest scores, each by what it was measured first."""
    ranked = sorted(once(plan), key=lambda line: float(line["score"] or 0), reverse=True)
    return [row for row in (knobs(plan, line) for line in ranked) if not equal.is_default(row)][:RIVALS]


def measured(plan: Plan, told: Told, number: int) -> dict[str, float | None] | None:
    """One round: the score of the defaults and of each row; None if the sweep failed."""
    wanted = [told["winner"], *told["rivals"]]
    names = dict.fromkeys(name for row in wanted for name, pick in row.items() if pick != recording.LEFT)
    rows = [{name: row.get(name, recording.LEFT) for name in names} for row in wanted]
    rows = [*{equal.key(row): row for row in rows if not equal.is_default(row)}.values()]
    random.Random(number).shuffle(rows)  # noqa: S311 - an order
    values = {name: [*dict.fromkeys([recording.LEFT, *(row[name] for row in rows)])] for name in names}
    space, folder = Space(values, plan.space.words), plan.folder / f"round-{number}"
    code = recording.run(recording.sweep_of(rows, folder, space), folder / "sweep.log")
    records = [one for one in recording.records(folder) if one.same_as is None]
    if len(records) < len(rows) + 1:
        print(f"Round {number} ended with exit code {code} after {len(records)} trials: {folder / 'sweep.log'}")
        return None
    return {equal.key(recording.knobs_of(one, [*names])): score_of(one) for one in records}


def table(found: Mapping[str, Told]) -> Iterator[str]:
    """Each search as a line in Markdown, with what it recommends against the best of the table's rows."""
    heads = ("engine", "search", "trials", "time", "of the table's", "it recommends")
    yield f"| {' | '.join(heads)} | against the defaults | against the table's best |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, told in found.items():
        winner = equal.key(told["winner"])
        share = f"{told['took_s'] / told['table_s']:.0%} of {told['table_rows']} rows"
        cells = [name, f"`{' '.join(told['search'])}`", told["trials"], f"{told['took_s'] / 60:.1f} min", share]
        against = [equal.spread(shares(told, winner, other)) for other in (equal.DEFAULTS, best_rival(told))]
        yield f"| {' | '.join(map(str, [*cells, f'`{winner}`', *against]))} |"


def shares(told: Told, winner: str, other: str) -> list[float]:
    return [one[winner] / one[other] for one in told["rounds"] if one.get(winner) and one.get(other)]


def best_rival(told: Told) -> str:
    """The row of the table, or the defaults, with the highest mean over the rounds."""
    keys: set[str] = {key for one in told["rounds"] for key in one} - {equal.key(told["winner"])} or {equal.DEFAULTS}
    return max(sorted(keys), key=lambda key: sum(one.get(key) or 0.0 for one in told["rounds"]))


def read(path: Path) -> dict[str, Told]:
    """What is there, by the table's name."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def write(plan: Plan, told: Told) -> None:
    beside = plan.result.with_suffix(".part")
    beside.write_text(json.dumps(read(plan.result) | {plan.name: told}, indent=1) + "\n")
    beside.replace(plan.result)


def smoke() -> int:
    """Three trials of a made-up engine beside a made-up table, and one round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        space = recording.played(folder)
        rows = [{"parallel": "4", "load_s": "null"}, {"parallel": "null", "load_s": "0.1"}]
        lines: list[recording.Cells] = [
            {**row, "score": 2.0 - at, "startup_s": 1.0, "seconds@x1": 1.0} for at, row in enumerate(rows)
        ]
        recording.append(folder / "table.csv", lines)
        search = ("parallel=null,2", "hydra.sweeper.confirm=0")
        plan = Plan("stub", folder / "table.csv", space, folder / "found.json", folder / "runs", search, rounds=1)
        code = run(plan, busy=True)
        print("\n".join(table(read(plan.result))))
        return code or int(not read(plan.result)["stub"]["rounds"])


if __name__ == "__main__":
    sys.exit(main())
