"""Do the load generators say the same? Ours and aiperf against a server of known pace, with users and at a rate.

Each must be within 5% of the truth, and of the other one, in TTFT, TPOT and throughput. aiperf is taken from
SERVETUNE_TEST_AIPERF, from PATH, or with --make installed below ~/.cache. About two minutes.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from benchmarks.parts.known_pace import served
from fakes.tiny_gguf import write_tiny_gguf
from parts import aiperf_env
from pipeline import bench
from pipeline.bench.aiperf import Aiperf
from pipeline.bench.resident import Resident
from pipeline.core import metrics
from pipeline.core.record import LevelMetrics
from support import measuring

TTFT_S, TOKEN_S, TOKENS = 0.4, 0.05, 32
TAKES_S = TTFT_S + (TOKENS - 1) * TOKEN_S
APART = 0.05
USERS, PER_USER, RATE, FOR_S = 8, 5, 4, 15
LOADS = {
    f"{USERS} users": (f"traffic.concurrencies=[{USERS}]", f"traffic.requests_per_user={PER_USER}"),
    f"{RATE} requests/s": ("traffic.arrival=constant", f"traffic.rates=[{RATE}]", f"traffic.arrivals_s={FOR_S}"),
}


@dataclass(frozen=True)
class Seen:
    """Seconds; tokens per second."""

    name: str
    load: str
    ttft_s: float
    tpot_s: float
    tokens_per_s: float
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> dict[str, float]:
        """What is compared."""
        return {"TTFT": self.ttft_s, "TPOT": self.tpot_s, "tokens/s": self.tokens_per_s}


@dataclass(frozen=True)
class Setup:
    """Where things are."""

    folder: Path
    model: Path
    url: str
    program: Path | None  # aiperf


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table; 1 where two are further apart than they may be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", action="store_true", help="install aiperf where there is none")
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="only ours, once: only whether it runs")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what we have started ends with us
    program = None if options.only_ours or options.smoke else found(make=options.make)
    apart: list[str] = []
    with tempfile.TemporaryDirectory() as name, served(ttft_s=TTFT_S, token_s=TOKEN_S) as url:
        os.environ["SERVETUNE_STATE_DIR"] = str(Path(name) / "state")
        setup = Setup(Path(name), write_tiny_gguf(Path(name) / "tiny.gguf"), url, program)
        for load, given in LOADS.items():
            rows = [truth(load), *measured(setup, load, given)]
            print("\n".join(map(line, rows)), flush=True)
            apart += [words for pair in combinations(rows, 2) for words in differences(*pair)]
    print("\n".join(apart) or f"all within {APART:.0%}")
    return 1 if apart and not options.smoke else 0


def found(*, make: bool) -> Path | None:
    """The command of aiperf; None, told, where there is none."""
    if aiperf_env.FOUND:
        return Path(aiperf_env.FOUND).absolute()
    if not make:
        print(f"aiperf is not installed: only ours is measured (--make installs it, or set {aiperf_env.GIVEN})")
        return None
    return aiperf_env.made(aiperf_env.uv())


def truth(load: str) -> Seen:
    """What a perfect load generator would say."""
    if load.endswith("users"):
        return Seen("truth", load, TTFT_S, TOKEN_S, USERS * TOKENS / TAKES_S)
    last_s = (RATE * FOR_S - 1) / RATE  # when the last one is sent
    return Seen("truth", load, TTFT_S, TOKEN_S, RATE * FOR_S * TOKENS / (last_s + TAKES_S))


def measured(setup: Setup, load: str, given: Sequence[str]) -> Iterator[Seen]:
    """The level by ours, and by aiperf where it is there."""
    runners: dict[str, bench.Runner] = {"servetune": Resident(setup.folder / "resident.log")}
    runners |= {"aiperf": Aiperf(setup.program)} if setup.program else {}
    for name, runner in runners.items():
        try:
            seen, notes = level(setup, runner, name, given)
        finally:
            runner.close()
        if seen.ttft is None or seen.tpot is None:
            raise RuntimeError(f"{name}: no latencies were measured")
        yield Seen(name, load, seen.ttft.mean, seen.tpot.mean, seen.output_tokens_per_s, notes)


def level(setup: Setup, runner: bench.Runner, name: str, given: Sequence[str]) -> tuple[LevelMetrics, tuple[str, ...]]:
    """As a trial would measure it."""
    own = ("traffic.min_requests=1", f"bench.runner={'aiperf' if name == 'aiperf' else 'resident'}")
    run_dir, scenario = Path(tempfile.mkdtemp(dir=setup.folder)), f"D(24,{TOKENS})"
    made = measuring.planned(
        setup.model, run_dir, setup.url, scenario, words=[*own, *given], label=f"generators-{name}"
    )
    seen, read = measuring.by(runner, made, TOKENS)
    return seen, metrics.warnings_for(seen, read)


def differences(one: Seen, other: Seen) -> Iterator[str]:
    """In what they are too far apart."""
    for name, number in one.numbers.items():
        ratio = other.numbers[name] / number - 1
        if abs(ratio) > APART:
            yield f"{one.load}: {name} of {other.name} is {ratio:+.1%} of {one.name}'s"


def line(row: Seen) -> str:
    return (
        f"{row.load:<14} {row.name:<10} TTFT {row.ttft_s * 1000:7.1f} ms  TPOT {row.tpot_s * 1000:6.2f} ms  "
        f"{row.tokens_per_s:7.1f} tokens/s  {'; '.join(row.notes)}"
    )


if __name__ == "__main__":
    sys.exit(main())
