"""Does the load generator keep time? Ours and others against a server whose pace is known, in one run.

The truth is the same in every row. The server shares this machine's cores and tells how late it was itself. Plain
genai-bench and, where it is installed, aiperf measure the same levels. About five minutes.
"""

import argparse
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from benchmarks.parts.known_pace import served
from fakes.tiny_gguf import write_tiny_gguf
from pipeline import bench
from pipeline.bench.cli import Cli
from pipeline.bench.resident import Resident
from pipeline.core import metrics
from support import aiperf, measuring
from support.measuring import Planned

TTFT_S, TOKEN_S, TOKENS, PER_USER = 0.04, 0.02, 128, 4
LIMITS = {256: (1.25, 2.0, 0.95), 512: (2.0, math.inf, 0.90)}  # of the truth: TTFT mean, p95; throughput at least
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}  # Student's t, by the number of measurements


@dataclass(frozen=True)
class Seen:
    """What a load generator says of one level, and what the server says of itself; seconds, tokens per second."""

    ttft_mean_s: float
    ttft_p95_s: float
    tpot_mean_s: float
    tokens_per_s: float
    client_cpu_s: float | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Row:
    """The measurements of one level by one load generator."""

    name: str
    users: int
    seen: list[Seen] = field(default_factory=list)
    servers: list[dict[str, float]] = field(default_factory=list)
    load: float = 0.0  # of the machine, before
    failure: str | None = None


@dataclass(frozen=True)
class Setup:
    """Where things are."""

    folder: Path
    model: Path
    url: str


Measure = Callable[[Setup, int, str], Seen]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table; 1 if ours does not keep time."""
    options = arguments().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what we have started ends with us
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, served(ttft_s=TTFT_S, token_s=TOKEN_S) as url:
        folder = Path(name)
        os.environ["SERVETUNE_STATE_DIR"] = str(folder / "state")
        setup = Setup(folder, write_tiny_gguf(folder / "tiny.gguf"), url)
        print(f"truth: TTFT {TTFT_S * 1000:.0f} ms, TPOT {TOKEN_S * 1000:.0f} ms for any number of users\n{HEADER}")
        for row in measured(setup, options):
            rows.append(row)
            print(line(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    missed = [words for row in rows for words in short_of(row, rows)]
    print("\n".join(missed) or "ours keeps time")
    return 1 if missed and not options.smoke else 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 128, 256, 512])
    parser.add_argument("--repeats", type=int, default=3, help="how often ours measures the levels with a limit")
    parser.add_argument("--workers", type=int, help="processes of ours (bench.workers); default: as many as it takes")
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="two users, once, only ours: only whether it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all measurements there")
    return parser


def measured(setup: Setup, options: argparse.Namespace) -> Iterator[Row]:
    users = [2] if options.smoke else options.users
    runner = Resident(setup.folder / "resident.log")
    try:
        ours = lambda setup, users, name: genai_bench(runner, setup, users, name, options.workers)  # noqa: E731
        for number in users:
            times = options.repeats if number in LIMITS else 1
            yield measure(setup, "servetune", number, ours, times)
    finally:
        runner.close()
    if options.smoke or options.only_ours:
        return
    others: dict[str, Measure] = {"genai-bench": plain}
    others |= {aiperf.PROGRAM: by_aiperf} if shutil.which(aiperf.PROGRAM) else {}
    for name, call in others.items():
        for number in (each for each in users if each in LIMITS):
            yield measure(setup, name, number, call, 1)


def measure(setup: Setup, name: str, users: int, call: Measure, times: int) -> Row:
    """One level, several times."""
    row = Row(name, users, load=os.getloadavg()[0])
    for number in range(times):
        before = lag(setup.url)
        try:
            row.seen.append(call(setup, users, f"{name}-{users}-{number}"))
        except Exception as error:  # noqa: BLE001 - another program's failure is a row of the table
            row.failure = f"{type(error).__name__}: {error}"
            break
        after = lag(setup.url)
        row.servers.append({**after, "cpu_s": after["cpu_s"] - before["cpu_s"]})
    return row


def lag(url: str) -> dict[str, float]:
    """What the server says of itself since the last question."""
    with urlopen(f"{url}/lag", timeout=10) as answer:  # noqa: S310 - it is our own
        told: dict[str, float] = json.load(answer)
    return told


def genai_bench(runner: bench.Runner, setup: Setup, users: int, name: str, workers: int | None = None) -> Seen:
    """A level by one of our runners, as a trial would measure it."""
    seen, read = measuring.by(runner, planned(setup, users, name, workers), TOKENS)
    if seen.ttft is None or seen.tpot is None:
        raise RuntimeError("no latencies were measured")
    client = read.client
    cpu_s = client.cpu_share * read.run_duration_s if client else None
    notes = metrics.warnings_for(seen, read)
    return Seen(seen.ttft.mean, seen.ttft.p95, seen.tpot.mean, seen.output_tokens_per_s, cpu_s, notes)


def planned(setup: Setup, users: int, name: str, workers: int | None) -> Planned:
    run_dir = setup.folder / name
    run_dir.mkdir()
    words = [
        f"traffic.concurrencies=[{users}]", f"traffic.requests_per_user={PER_USER}", "traffic.min_requests=1",
        f"bench.workers={workers or 'auto'}",
    ]  # fmt: skip
    scenario, label = f"D(24,{TOKENS})", f"fidelity-{name}"
    return measuring.planned(setup.model, run_dir, setup.url, scenario, words=words, label=label)


def plain(setup: Setup, users: int, name: str) -> Seen:
    """The genai-bench command itself."""
    return genai_bench(Cli(bench.installed_program()), setup, users, name)


def by_aiperf(setup: Setup, users: int, name: str) -> Seen:
    """With the same tokenizer, and as many requests."""
    folder = setup.folder / name
    folder.mkdir()
    tokenizer = planned(setup, 1, f"{name}-tokenizer", None).plan.tokenizer_dir
    return Seen(*aiperf.measure(setup.url, users, folder, tokenizer, tokens=TOKENS, requests=users * PER_USER))


def possible(users: int) -> float:
    """Tokens per second, if nobody but the server took time."""
    return users * TOKENS / (TTFT_S + (TOKENS - 1) * TOKEN_S)


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and half of its 95% interval; None for a single value."""
    if len(values) < 2:
        return values[0], None
    return mean(values), T_95.get(len(values), 2.5) * stdev(values) / math.sqrt(len(values))


HEADER = (
    f"{'load generator':<14} {'users':>5} {'TTFT mean ms':>15} {'p95':>13} {'TPOT ms':>13} {'tokens/s of possib.':>21} "
    f"{'client core':>11} {'server core':>11} {'server late p99 ms':>18} {'load':>5}"
)


def line(row: Row) -> str:
    if row.failure or not row.seen:
        return f"{row.name:<14} {row.users:>5}  {row.failure}"
    took_s = row.users * PER_USER * TOKENS / mean(each.tokens_per_s for each in row.seen)
    cpu = [each.client_cpu_s for each in row.seen if each.client_cpu_s is not None]
    server = [each["cpu_s"] for each in row.servers]
    cells = [
        f"{row.name:<14} {row.users:>5}",
        f"{spread([each.ttft_mean_s * 1000 for each in row.seen]):>15}",
        f"{spread([each.ttft_p95_s * 1000 for each in row.seen]):>13}",
        f"{spread([each.tpot_mean_s * 1000 for each in row.seen]):>13}",
        f"{spread([100 * each.tokens_per_s / possible(row.users) for each in row.seen]):>20}%",
        f"{f'{mean(cpu) / took_s:.0%}' if cpu else '':>11}",
        f"{f'{mean(server) / took_s:.0%}' if server else '':>11}",
        f"{max(each['p99_s'] for each in row.servers) * 1000:>18.1f}",
        f"{row.load:>5.1f}",
    ]
    return " ".join(cells) + ("" if len(row.seen) > 1 else "  once")


def spread(values: Sequence[float]) -> str:
    middle, half = interval(values)
    return f"{middle:.1f}" if half is None else f"{middle:.1f} ± {half:.1f}"


def short_of(row: Row, rows: Sequence[Row]) -> Iterator[str]:
    """Where ours does not keep time, or another one keeps it better."""
    if row.name != "servetune":
        return
    if row.failure or not row.seen:
        yield f"ours failed at {row.users} users: {row.failure}"
        return
    ttft, p95, speed = summary(row)
    most, most_p95, least = LIMITS.get(row.users, (math.inf, math.inf, 0.0))
    if ttft > most * TTFT_S:
        yield f"{row.users} users: TTFT mean {ttft * 1000:.0f} ms, at most {most * TTFT_S * 1000:.0f} wanted"
    if p95 > most_p95 * TTFT_S:
        yield f"{row.users} users: TTFT p95 {p95 * 1000:.0f} ms, at most {most_p95 * TTFT_S * 1000:.0f} wanted"
    if speed < least * possible(row.users):
        yield f"{row.users} users: {speed / possible(row.users):.0%} of what is possible, {least:.0%} wanted"
    for other in (each for each in rows if each.users == row.users and each is not row and each.seen):
        told_ttft, _, told_speed = summary(other)
        if abs(told_ttft - TTFT_S) < abs(ttft - TTFT_S) or told_speed > speed:
            yield f"{row.users} users: {other.name} is nearer to the truth"


def summary(row: Row) -> tuple[float, float, float]:
    """TTFT mean, TTFT p95, tokens per second."""
    names = ("ttft_mean_s", "ttft_p95_s", "tokens_per_s")
    ttft, p95, speed = (mean(getattr(each, name) for each in row.seen) for name in names)
    return ttft, p95, speed


if __name__ == "__main__":
    start = time.monotonic()
    code = main()
    print(f"took {time.monotonic() - start:.0f} s")
    sys.exit(code)
