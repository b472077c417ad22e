"""The command line as users have it, with the stand-in engine and the stand-in genai-bench."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.record import Record
from pipeline.core.values import load
from support import forked
from support.places import TESTS


@dataclass(frozen=True)
class Result:
    """A finished command and what it left."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def records(self) -> list[Record]:
        """The records it wrote, by trial number."""
        return sorted((load(Record, path) for path in self.folder.glob("*/record.json")), key=lambda r: r.number)

    @property
    def record(self) -> Record:
        """The record of a single trial."""
        (only,) = self.records
        return only

    def lease(self, trial: int = 0) -> dict[str, Any]:
        """The lease in a trial's folder."""
        data: dict[str, Any] = json.loads((self.folder / str(trial) / "lease.json").read_text())
        return data


def stub_overrides(folder: Path, gguf: Path) -> list[str]:
    """Overrides that put the stand-ins in place and the outputs into `folder`."""
    return [
        f"hydra.searchpath=[file://{TESTS}/fakes/conf]",
        "hydra/sweeper=basic",  # no trials but those that a test asks for
        "runtime=stub",
        "model=gguf",
        f"model.path={gguf}",
        "traffic=two_levels",
        "tracker=none",
        "bench.runner=cli",
        f"bench.program={TESTS}/fakes/bench/genai-bench",
        f"hydra.run.dir={folder}/0",
        f"hydra.sweep.dir={folder}",
    ]


def real_overrides(folder: Path, gguf: Path) -> list[str]:
    """Overrides for a sweep of six trials with llama.cpp's server and genai-bench, as small as can be."""
    return [
        "model=gguf",
        f"model.path={gguf}",
        "tracker=none",
        'traffic.scenarios=["D(16,8)"]',
        "traffic.concurrencies=[1,2]",
        "traffic.min_requests=4",
        "hydra.sweeper.confirm=0",
        f"hydra.sweep.dir={folder}",
        "n_parallel=null,1,2",
        "n_batch=null,64",
    ]


def pipeline(
    *overrides: str,
    folder: Path,
    gguf: Path,
    sweep: bool = False,
    env: Mapping[str, str] | None = None,
    module: str = "pipeline",
    timeout_s: float = 240,
) -> Result:
    """Run `python -m pipeline [-m] ...` to its end."""
    argv = [*command(sweep=sweep, module=module), *stub_overrides(folder, gguf), *overrides]
    done = forked.run(argv, env={**os.environ, **(env or {})}, timeout_s=timeout_s)
    return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder)


def command(*, sweep: bool, module: str = "pipeline") -> Sequence[str]:
    """The program and its mode."""
    return [sys.executable, "-m", module, *(["-m"] if sweep else [])]
