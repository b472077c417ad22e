"""A real sweep of equal configurations (an A/A series): llama.cpp, genai-bench, and the verdict that must name nobody.

The knob that is swept has no effect in a CPU build, and twin detection is off, so that each configuration is measured.
About ten minutes; `--json FILE` records every measurement.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fakes.tiny_gguf import write_tiny_gguf
from pipeline.core.files import SweepDir
from pipeline.core.record import Record
from pipeline.report import sentences, summary, verdict
from support.places import ROOT

PROGRAM = """
import sys
from pipeline.trial import twin
twin.by_rules = twin.by_settings = lambda *_: None  # equal configurations are what this is about
from pipeline.__main__ import main
sys.exit(main())
"""
KNOB = "n_gpu_layers"  # "no effect in a CPU build"
SMALL = ("traffic.scenarios=['D(16,4)']", "traffic.min_requests=2", "traffic.concurrencies=[1]")


def main(argv: Sequence[str] | None = None) -> int:
    """Sweep, print what was seen; 1 if a configuration was called better than its equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=6, help="equal ones, the baseline among them")
    parser.add_argument("--smoke", action="store_true", help="two tiny ones, one round: only whether it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every measurement there")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what we have started ends with us
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SERVETUNE_STATE_DIR"] = str(folder / "state")
        sweep(folder, 2 if options.smoke else options.configurations, is_smoke=options.smoke)
        records = summary.read(SweepDir(folder / "sweep"))
    found = told(records)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    print("\n".join(lines(found)))
    return 0 if options.smoke else int(found["named"] is not None)


def sweep(folder: Path, count: int, *, is_smoke: bool) -> None:
    """Measure equal configurations, and confirm."""
    values = ",".join(["null", *map(str, range(count - 1))])
    words = ["-m", f"{KNOB}={values}", f"hydra.sweep.dir={folder / 'sweep'}", "tracker=none"]
    if is_smoke:
        tiny = write_tiny_gguf(folder / "tiny.gguf")
        words += ["model=gguf", f"model.path={tiny}", "hydra.sweeper.confirm=1", *SMALL]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *words], cwd=ROOT, stdout=sys.stderr) as child:
        try:
            child.wait()
        finally:
            child.terminate()


def told(records: Sequence[Record]) -> dict[str, Any]:
    """The measurements, and what was made of them."""
    found = verdict.of(records)
    return {
        "named": None if found.recommended == found.baseline or found.kind == "once" else found.recommended,
        "kind": found.kind,
        "verdict": sentences.of(found),
        "noise": noise(records),
        "measurements": list(measurements(records)),
    }


def measurements(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """One for each trial, as they were run."""
    for record in records:
        yield {
            "trial": record.number,
            "of": record.number if record.repeat_of is None else record.repeat_of,
            "phase": record.phase,
            "started_at": record.started_at.isoformat(timespec="seconds"),
            "objective": dict(record.objective or {}),
            "best_level": record.best_level,
        }


def noise(records: Sequence[Record]) -> float | None:
    """The relative standard deviation of a measurement, over all of them: they are of one configuration."""
    scores = [math.log(score) for record in records for score in (record.objective or {}).values() if score > 0]
    return stdev(scores) if len(scores) > 1 else None


def lines(found: dict[str, Any]) -> Iterator[str]:
    """For people."""
    spread = "unknown" if found["noise"] is None else f"{found['noise']:.1%}"
    yield f"{len(found['measurements'])} measurements of equal configurations, noise {spread}: {found['kind']}"
    yield from found["verdict"]
    yield "nobody was named" if found["named"] is None else f"trial {found['named']} was called better: it is not"


if __name__ == "__main__":
    sys.exit(main())
