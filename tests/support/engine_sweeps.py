"""Commands for sweeps of real engines on CPUs, as small as can be, and what is seen of a sweep while it runs."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.machine import process
from support.cli import Result, command
from support.places import ROOT

PATIENCE_S = 800.0  # on a machine that is busy with other tests, a start takes minutes
LOAD = (
    'traffic.scenarios=["D(16,8)"]',
    "traffic.concurrencies=[2]",
    "traffic.min_requests=4",
    "traffic.requests_per_user=2",
)
LONG_LOAD = ("traffic.min_requests=4000", "traffic.max_time_per_level_s=240")  # to be killed in its middle
SMALL: Mapping[str, tuple[str, ...]] = {
    "vllm": (
        "runtime.version=0.32.0",
        "+runtime.env.VLLM_CPU_KVCACHE_SPACE='1'",
        *("max_model_len=1024", "dtype=bfloat16", "enforce_eager=true"),
    ),
    "transformers": (
        "runtime.version=5.19.0",
        "continuous_batching=true",
        "cb_num_blocks=16",
        "cb_max_batch_tokens=256",
    ),
    "sglang": (
        "runtime.version=0.5.23",
        "+runtime.env.SGLANG_USE_CPU_ENGINE='1'",
        "attention_backend=torch_native",
        "runtime.extra_args=[--device,cpu,--max-total-tokens,'8192',--sampling-backend,pytorch]",
    ),
}


@dataclass(frozen=True)
class Engine:
    """A real engine: the interpreter that has it, and a model."""

    name: str
    python: Path
    model: Path

    def sweep(self, folder: Path, *overrides: str) -> list[str]:
        """The command of a sweep into `folder`."""
        return [
            *command(sweep=True),
            *(f"runtime={self.name}", f"runtime.python={self.python}", *SMALL[self.name]),
            *("model=local", f"model.path={self.model}", "hardware=cpu", "tracker=none", *LOAD),
            *("timeouts.warmup_s=240", "hydra.sweeper.confirm=0", f"hydra.sweep.dir={folder}", *overrides),
        ]


def run(argv: list[str], folder: Path, *, tmp: Path | None = None, timeout_s: float = PATIENCE_S) -> Result:
    """The command, to its end. `tmp`: where its temporary files go."""
    done = subprocess.run(
        argv, cwd=ROOT, env=_environment(tmp), capture_output=True, text=True, timeout=timeout_s, check=False
    )
    return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder)


@contextmanager
def measuring(
    argv: list[str], folder: Path, *, trial: int = 0, tmp: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The command, from when the engine answers requests of the trial; gone at the end, if it is still there."""
    with subprocess.Popen(
        argv, cwd=ROOT, env=_environment(tmp), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as us:
        try:
            began = process.wait_until(
                lambda: _answers(folder / str(trial)) or us.poll() is not None, timeout_s=PATIENCE_S
            )
            assert began
            assert us.poll() is None, us.communicate()[0]
            yield us
        finally:
            if us.poll() is None:
                us.kill()


def _environment(tmp: Path | None) -> dict[str, str]:
    return {**os.environ, **({"TMPDIR": str(tmp)} if tmp else {})}


def _answers(folder: Path) -> bool:
    """Whether a request of the trial's level has been answered."""
    return any(b'"end"' in path.read_bytes() for path in folder.glob("bench/*/*/requests.jsonl"))


def family(us: subprocess.Popen[str]) -> list[psutil.Process]:
    """What it has started, and what that has started."""
    return psutil.Process(us.pid).children(recursive=True)


def living(ones: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""
    return [one for one in ones if one.is_running() and _status(one) != psutil.STATUS_ZOMBIE]


def _status(one: psutil.Process) -> str:
    try:
        return str(one.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_ZOMBIE)
