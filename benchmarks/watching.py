"""What looking at an engine and its hardware takes while a level runs: CPU time of this process, as a share of a core.

Beside it runs nothing but a server that tells what a real vLLM tells, in a process of its own, and a stand-in for NVML
with eight GPUs. About half a minute for each of both; the budget is for each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/fakes/nvml"))

import yaml

from pipeline.core.places import CONF
from pipeline.core.schema_engine import Tells
from pipeline.core.values import parse
from pipeline.machine.hardware_meter import Meter
from pipeline.machine.sampler import Sampler
from pipeline.trial.engine_watch import EngineWatch

ROOT = Path(__file__).resolve().parent.parent
TEXT = ROOT / "tests/unit/engines/metrics/vllm.txt"
BUCKETS = 400  # lines that nobody reads, as a real server has them
GPUS = 8
SECONDS, SMOKE_SECONDS = 30.0, 1.0
BUDGET = 0.01  # of a core
SERVER = (
    "import http.server, os, sys; os.chdir(sys.argv[1]); http.server.test(http.server.SimpleHTTPRequestHandler, port=0)"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the shares; 1 if one is over its budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a second each and no budget: only whether it runs")
    is_smoke = parser.parse_args(argv).smoke
    seconds = SMOKE_SECONDS if is_smoke else SECONDS
    shares = {"the engine's metrics": of_engine(seconds), f"the sensors of {GPUS} GPUs": of_hardware(seconds)}
    for what, (share, looks) in shares.items():
        print(f"{what}: {share:.2%} of a core (budget {BUDGET:.0%}), {looks} looks in {seconds:g} s")
    return int(not is_smoke and any(share > BUDGET for share, _ in shares.values()))


def of_engine(seconds: float) -> tuple[float, int]:
    """Its share and looks, of a server that tells what vLLM tells."""
    tells = yaml.safe_load((CONF / "runtime" / "vllm.yaml").read_text())["runtime"]["tells"]
    with served() as url:
        watch = EngineWatch(url, parse(Tells, tells), None)
        return taken(watch.glance, seconds)


def of_hardware(seconds: float) -> tuple[float, int]:
    """Its share and looks, of GPUs that are played."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "nvml.json")
        file.write_text(json.dumps([{"uuid": f"GPU-{index:08x}"} for index in range(GPUS)]))
        os.environ["STANDIN_NVML"] = str(file)
        meter = Meter([str(index) for index in range(GPUS)], is_cpu=False)
        meter.begin()
        try:
            return taken(meter.look, seconds)
        finally:
            meter.close()


def taken(look: Callable[[], object], seconds: float) -> tuple[float, int]:
    """CPU time of this whole process for each second, and how often it looked."""
    look()  # what is imported at the first look is imported now
    sampler = Sampler(look)
    before = time.process_time()
    sampler.start()
    time.sleep(seconds)
    samples = sampler.end()
    return (time.process_time() - before) / seconds, len(samples)


@contextmanager
def served() -> Iterator[str]:
    """A server whose /metrics is the text of a real one."""
    with tempfile.TemporaryDirectory() as folder:
        buckets = "".join(f'vllm:iteration_tokens_total_bucket{{le="{at}"}} 1.0\n' for at in range(BUCKETS))
        Path(folder, "metrics").write_text(TEXT.read_text() + buckets)
        command = [sys.executable, "-u", "-c", SERVER, folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            try:
                said = child.stdout.readline() if child.stdout else ""
                yield f"http://127.0.0.1:{said.split(' port ')[1].split()[0]}"
            finally:
                child.terminate()


if __name__ == "__main__":
    sys.exit(main())
