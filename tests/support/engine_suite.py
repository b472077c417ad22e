"""`make engines`: real engines on this machine's CPU, each through a whole sweep, Ctrl-C and recheck; prints a table.

vLLM's and SGLang's own configuration code is asked about random combinations, too: tests/live/engines/test_oracle_*.py.

vLLM and transformers are made where they are not there (tests/parts/engine_env.py). SGLang takes 7 GB: it runs where
SERVETUNE_TEST_SGLANG names its interpreter; what else it needs to import is in SERVETUNE_TEST_SGLANG_PYTHONPATH.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from parts import engine_env
from parts.left_behind import nothing_left
from pipeline.core.record import Record
from pipeline.machine import process
from support.cli import Result, command
from support.engine_sweeps import LONG_LOAD, Engine, family, living, measuring, run
from support.places import ROOT, TESTS

LIMIT_S = 3600.0
GONE_S = 60.0
KNOBS = {
    "vllm": ("max_num_seqs=null,4", "enable_prefix_caching=null,false"),
    "transformers": ("continuous_batching=null,true", "attn_implementation=null,eager"),
    "sglang": ("schedule_policy=null,lpm", "disable_radix_cache=null,true"),
}
NO_CACHE = {"vllm": "enable_prefix_caching=null,false", "sglang": "disable_radix_cache=null,true"}
SHARED = 0.9  # of the prompts of `capacity`
ORACLES = {name: TESTS / "live" / "engines" / f"test_oracle_{name}.py" for name in ("vllm", "sglang")}
MANY = "traffic.min_requests=40"  # one late request of four is a p95
SGLANG, SHIM = "SERVETUNE_TEST_SGLANG", "SERVETUNE_TEST_SGLANG_PYTHONPATH"


class Row(NamedTuple):
    """One step of one engine: what was seen, or what was wrong."""

    engine: str
    step: str
    seconds: float
    is_good: bool
    words: str


class Suite:
    """The steps for one engine, in a folder of their own."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.env = (
            [f"+runtime.env.PYTHONPATH={os.environ[SHIM]}"] if engine.name == "sglang" and SHIM in os.environ else []
        )

    def rows(self) -> Iterator[Row]:
        """Every step, also after one that failed."""
        more = [
            *([self.capacity] if self.engine.name in NO_CACHE else []),
            *([self.oracle] if self.engine.name in ORACLES else []),
        ]
        for step in (self.sweep, self.recheck, self.ctrl_c, *more):
            start = time.monotonic()
            try:
                words, is_good = step(), True
            except Exception as error:  # noqa: BLE001 - a row of the table
                words, is_good = " ".join(f"{type(error).__name__}: {error}".split())[-400:], False
            yield Row(self.engine.name, step.__name__, time.monotonic() - start, is_good, words)

    def sweep(self) -> str:
        """Four combinations, each measured; the best one and the baseline again in turn; report and best/."""
        argv = self.engine.sweep(
            self.folder / "sweep", *KNOBS[self.engine.name], "hydra.sweeper.confirm=1", MANY, *self.env
        )
        with nothing_left() as tmp:
            result = run(argv, self.folder / "sweep", tmp=tmp, timeout_s=LIMIT_S)
        _expect(result.code == 0, f"exit code {result.code}: {result.out[-600:]} {result.err[-600:]}")
        searched = [record for record in result.records if record.phase == "search"]
        _expect([record.status for record in searched] == ["ok"] * 4, f"{[record.status for record in searched]}")
        _expect(all(_is_clean(record) for record in result.records), "something was left behind")
        for name in ("report.html", "summary.csv", "best/serve.sh", "best/card.md"):
            _expect((self.folder / "sweep" / name).exists(), f"there is no {name}")
        version = result.records[0].engine_version or result.records[0].config.runtime.version
        return f"{len(result.records)} trials, {version}: {_best(searched)}"

    def recheck(self) -> str:
        """The best configuration again, compared with what is expected of it."""
        argv = [*command(sweep=False, module="pipeline.recheck"), str(self.folder / "sweep" / "best")]
        result = run([*argv, "--tolerance", "1", "--latency-tolerance", "1"], self.folder, timeout_s=LIMIT_S)
        _expect(result.code == 0, f"exit code {result.code}: {result.out[-600:]} {result.err[-600:]}")
        return result.out.strip().splitlines()[-1]

    def capacity(self) -> str:
        """Own prompts that begin alike, an SLO, how many users fit: with the prefix cache and without it."""
        prompts = _prompts(self.folder / "prompts.jsonl")
        traffic = ("traffic=dataset", f"traffic.path={prompts}", "traffic.levels=capacity", "traffic.max_concurrency=4")
        slo = ("slo=interactive", "slo.ttft_s=60", "slo.tpot_s=null", "slo.e2e_s=120", "slo.max_error_rate=0.5")
        some = ("traffic.scenarios=[dataset]", "traffic.min_requests=24", "traffic.requests_per_user=6")
        swept = (NO_CACHE[self.engine.name], *traffic, *slo, *some, *self.env)
        with nothing_left() as tmp:
            result = run(self.engine.sweep(self.folder / "capacity", *swept), self.folder / "capacity", tmp=tmp)
        _expect(result.code == 0, f"exit code {result.code}: {result.out[-600:]} {result.err[-600:]}")
        on, off = (_hits(record) for record in result.records)
        _expect(min(on) > SHARED / 2, f"hit rates with a prefix cache: {on}")
        _expect(max(off) == 0, f"hit rates without one: {off}")
        _expect(all(record.advice for record in result.records), "nothing is said of what limits a trial")
        found = re.search(r"Users at a time that trial \d has room for[^.]*", result.out)
        _expect(found is not None, f"no capacity: {result.out[-600:]}")
        return f"{found[0] if found else ''}; prefix cache hits {min(on):.0%} to {max(on):.0%}"

    def ctrl_c(self) -> str:
        """Ctrl-C while it measures: everything is gone, the trial is recorded as interrupted."""
        argv = self.engine.sweep(self.folder / "stopped", *KNOBS[self.engine.name], *LONG_LOAD, *self.env)
        with nothing_left() as tmp, measuring(argv, self.folder / "stopped", tmp=tmp) as us:
            started, at = family(us), time.monotonic()
            us.send_signal(signal.SIGINT)
            us.wait(timeout=GONE_S)
        _expect(process.wait_until(lambda: not living(started), timeout_s=GONE_S), f"still there: {living(started)}")
        seconds = time.monotonic() - at
        (record,) = Result(code=us.returncode, out="", err="", folder=self.folder / "stopped").records
        _expect(record.status == "interrupted" and _is_clean(record), f"{record.status}, {record.teardown}")
        return f"{len(started)} processes gone after {seconds:.1f} s, exit code {us.returncode}"

    def oracle(self) -> str:
        """Our verdicts on random combinations against the engine's own configuration code."""
        argv = [sys.executable, "-m", "pytest", "-q", "--no-header", str(ORACLES[self.engine.name])]
        given = SGLANG if self.engine.name == "sglang" else engine_env.GIVEN
        env = {**os.environ, given: str(self.engine.python)}
        done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        _expect(done.returncode == 0, done.stdout[-600:])
        return done.stdout.strip().splitlines()[-1]


def _prompts(path: Path) -> Path:
    """A hundred questions behind one long system prompt, which is some nine tenths of each."""
    system = "You answer questions of users of a small shop, " + "and you are kind to every one of them " * 14
    questions = [f"Question {at}: what does article {37 * at} cost?" for at in range(100)]
    lines = [
        {"messages": [{"role": "system", "content": system}, {"role": "user", "content": each}], "output_tokens": 8}
        for each in questions
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def _hits(record: Record) -> list[float]:
    """The prefix cache's hit rate, level by level; -1 where nobody tells it."""
    rates = [level.engine_metrics.prefix_hit_rate if level.engine_metrics else None for level in record.levels]
    return [-1.0 if rate is None else rate for rate in rates]


def _expect(is_so: object, words: str) -> None:
    if not is_so:
        raise AssertionError(words)


def _is_clean(record: Record) -> bool:
    return record.teardown is None or record.teardown.is_clean


def _best(records: Sequence[Record]) -> str:
    scores = {record.number: next(iter((record.objective or {"": 0.0}).values())) for record in records}
    number = max(scores, key=lambda each: scores[each])
    return f"{min(scores.values()):.1f} to {scores[number]:.1f} tokens/s, trial {number} first"


def _engines(names: Sequence[str]) -> Iterator[Engine]:
    for name in names:
        if name == "sglang" and SGLANG not in os.environ:
            print(f"sglang: not run, {SGLANG} names no interpreter", file=sys.stderr)
            continue
        python = Path(os.environ[SGLANG]) if name == "sglang" else engine_env.python()
        yield Engine(name=name, python=python, model=engine_env.model())


def _show(rows: Sequence[Row], write: Callable[[str], object]) -> None:
    write(f"{'engine':<13} {'step':<8} {'seconds':>8}  {'':<6} what was seen")
    for row in rows:
        mark = "ok" if row.is_good else "FAILED"
        write(f"{row.engine:<13} {row.step:<8} {row.seconds:>8.0f}  {mark:<6} {row.words}")


def main() -> int:
    """Run it; 0 if every step of every engine was as it should be."""
    parser = argparse.ArgumentParser(prog="make engines", description=__doc__)
    parser.add_argument("--engine", action="append", choices=KNOBS, help="only this one; again for another")
    parser.add_argument("--to", type=Path, help="keep the sweeps here")
    options = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored in the background of a shell: then in all we start
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="engines-") as folder:
        for engine in _engines(options.engine or [*KNOBS]):
            for row in Suite(engine, (options.to or Path(folder)).resolve() / engine.name).rows():
                _show([row], print)
                rows.append(row)
    print()
    _show(rows, print)
    return 0 if rows and all(row.is_good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
