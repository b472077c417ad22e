"""Records tables of real engines on this machine; without --record, what they show and what is left.

For replay and the documentation.

llama.cpp: 200 configurations once, 40 of them five times, spread over the recording. vLLM: 24 once. Every part is a
sweep of the product's own, beginning with the engine's defaults, and one block of lines of benchmarks/tables/*.csv; the
same command goes on after any interruption. Record with nothing else running: a busy machine ends it.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from benchmarks.parts import recording, summaries
from benchmarks.parts.recording import Row, Space
from support.places import ROOT

TABLES, FOLDER = ROOT / "benchmarks" / "tables", ROOT / "outputs" / "recorded"
PATIENCE_S = 120.0
LEAST_S = 30.0  # for less, no part begins

LLAMACPP = Space(
    words=(
        "tracker=none", "quality=none", "hardware=cpu", "traffic.scenarios=['D(24,6)']",
        "traffic.concurrencies=[1,4,8]", "traffic.min_requests=8", "traffic.requests_per_user=2",
        "traffic.max_time_per_level_s=20",
    ),
    knobs={
        "n_threads": ("null", "1", "3"),
        "n_threads_batch": ("null", "1", "2"),
        "n_parallel": ("null", "1", "2", "8"),
        "n_batch": ("null", "32", "128"),
        "n_ubatch": ("null", "8", "32"),
        "flash_attn": ("null", "off"),
        "cache_type_k": ("null", "f32", "q8_0", "q4_0"),
        "cache_type_v": ("null", "f32", "q8_0", "q4_0"),
        "cont_batching": ("null", "false"),
    },
)  # fmt: skip
VLLM = Space(
    words=(
        "tracker=none", "quality=none", "hardware=cpu", "runtime=vllm", "model=local", "runtime.version=0.32.0",
        "+runtime.env.VLLM_CPU_KVCACHE_SPACE='1'", "max_model_len=1024", "enforce_eager=true", "timeouts.warmup_s=240",
        "traffic.scenarios=['D(32,16)']", "traffic.concurrencies=[1,4,16]", "traffic.min_requests=12",
        "traffic.requests_per_user=2", "traffic.max_time_per_level_s=20",
    ),
    knobs={
        "max_num_seqs": ("null", "1", "4", "16"),
        "max_num_batched_tokens": ("null", "32", "128", "512"),
        "enable_chunked_prefill": ("null", "false"),
        "enable_prefix_caching": ("null", "false"),
        "async_scheduling": ("null", "false"),
        "dtype": ("null", "float32"),
    },
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table, and how much of it is wanted."""

    name: str
    space: Space
    count: int  # configurations, the default among them
    again: int = 0  # how many of them are measured `times` in all
    times: int = 1
    part: int = 20  # configurations in a sweep, beside the default
    guess_s: float = 15.0  # of a trial, before there is one
    prepare: Callable[[], Sequence[str]] = tuple  # further overrides, which may take long to make
    stand_ins: Sequence[str] = ()  # for them, where it is only asked which configurations there are
    seed: int = 1

    @property
    def path(self) -> Path:
        """Its file."""
        return TABLES / f"{self.name}.csv"


@dataclass(frozen=True)
class Part:
    """What one sweep of it measures."""

    name: str
    rows: Sequence[Row]


def main(argv: Sequence[str] | None = None) -> int:
    """Record, or say what is left; 75 if the machine is busy, 1 if a sweep failed."""
    options = arguments().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what we have started ends with us
    if options.smoke:
        return smoke()
    if options.record is None:
        for name, table in TABLE.items():
            wanted = parts(table)
            more = f". Go on: python {Path(__file__).name} --record {name}" if [*unrecorded(table, wanted)] else ""
            print(f"{name}: {told(table, wanted)}{more}")
            for line in summaries.summary(recording.read(table.path), [*table.space.knobs]):
                print(line)
        return 0
    return record(TABLE[options.record], options, FOLDER / options.record)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", choices=[*TABLE], help="which table to go on with")
    parser.add_argument(
        "--limit-s", type=float, help="stop after so many seconds; a part that is broken off goes on later"
    )
    parser.add_argument("--commit", action="store_true", help="commit the table after each part")
    parser.add_argument(
        "--busy", action="store_true", help="record on a busy machine too; such lines are marked _crowded"
    )
    parser.add_argument("--smoke", action="store_true", help="a tiny table, twice: only whether it runs and goes on")
    return parser


def record(table: Table, options: argparse.Namespace, folder: Path) -> int:
    """Part after part, until the table is whole, the time is over or something is wrong."""
    wanted = parts(table)
    print(told(table, wanted), flush=True)
    crowded = ["bench.crowded=note"] if options.busy else []  # measuring again would not help
    space = table.space.with_words(*table.prepare(), *crowded)
    for left_s, part in zip(recording.until(options.limit_s), unrecorded(table, wanted), strict=False):
        if left_s < LEAST_S:
            break
        if not options.busy and not recording.is_quiet(PATIENCE_S):
            return recording.BUSY
        code = record_part(table, part, space, folder / part.name, left_s)
        if code is not None:
            return code
        if options.commit and part.name in recorded(table):
            recording.commit([table.path], f"Record {table.name}: part {part.name}")
        print(told(table, wanted), flush=True)
    return 0


def record_part(table: Table, part: Part, space: Space, folder: Path, left_s: float) -> int | None:
    """Measure a part and add its lines; an exit code if it cannot be, None if all is well or the time is over."""
    argv = recording.sweep_of(part.rows, folder, space)
    log = folder / "sweep.log"
    code = recording.run(argv, log, limit_s=None if left_s == float("inf") else left_s)
    if code is None:
        print(f"Part {part.name} was broken off: the same command goes on with it in {folder}.")
        return None
    found = recording.records(folder)
    if len(found) < len(part.rows) + 1:
        print(f"Part {part.name} ended with exit code {code} after {len(found)} trials. Its end: {log}")
        print("\n".join(log.read_text(errors="replace").splitlines()[-8:]))
        return 1
    lines = [{**recording.cells(one, space), "_part": part.name} for one in found if one.same_as is None]
    recording.append(table.path, lines)
    return None


def parts(table: Table) -> list[Part]:
    """All of a table's; those that measure again lie between the others, so that repeats are apart."""
    rows = recording.drawn(table.space.with_words(*table.stand_ins), table.count - 1, table.seed)
    once = [Part(f"once-{at:02}", each) for at, each in enumerate(recording.batched(rows, table.part))]
    few = [*recording.batched(rows[: max(table.again - 1, 0)], table.part)]
    again = [Part(f"again-{time}-{at}", each) for time in range(1, table.times) for at, each in enumerate(few)]
    begin = len(few)  # before, they have not been measured once
    mixed = zip_longest(once[begin:], again)
    return [*once[:begin], *(part for pair in mixed for part in reversed(pair) if part is not None)]


def recorded(table: Table) -> set[str]:
    """The names of the parts that the table has."""
    return {line["_part"] for line in recording.read(table.path)}


def unrecorded(table: Table, wanted: Sequence[Part]) -> Iterator[Part]:
    return (part for part in wanted if part.name not in recorded(table))


def told(table: Table, wanted: Sequence[Part]) -> str:
    """How much of it there is, and how long the rest will take."""
    left, had = [*unrecorded(table, wanted)], recording.read(table.path)
    trials = sum(len(part.rows) + 1 for part in left)
    each_s = mean(taken_s(line) for line in had) if had else table.guess_s
    whole = f"{len(wanted) - len(left)} of {len(wanted)} parts are recorded"
    rest = f"{trials} trials are left: about {trials * each_s / 60:.0f} minutes" if left else "nothing is left"
    return f"{table.path.name}: {whole}, {len(had)} measurements; {rest}"


def taken_s(line: Mapping[str, str]) -> float:
    levels = (float(told or 0) for name, told in line.items() if name.startswith("seconds@"))
    return float(line["startup_s"]) + sum(levels)


def vllm() -> list[str]:
    """The real one for CPUs, which tests use, made if need be; and its tiny model."""
    from parts import engine_env

    return [f"runtime.python={engine_env.python()}", f"model.path={engine_env.model()}"]


TABLE = {
    "llamacpp": Table("llamacpp_gemma3_270m", LLAMACPP, count=200, again=40, times=5),
    "vllm": Table(
        "vllm_tiny_llama", VLLM, count=24, part=6, guess_s=45.0, prepare=vllm, stand_ins=["model.path=/model"]
    ),
}


def smoke() -> int:
    """Two parts of a made-up engine, then the same command again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = Table(str(folder / "smoke"), recording.played(folder), count=4, again=2, times=2, part=3)
        options = arguments().parse_args(["--busy"])
        code = record(table, options, folder / "sweeps") or record(table, options, folder / "sweeps")
        print(table.path.read_text())
        return code


if __name__ == "__main__":
    sys.exit(main())
