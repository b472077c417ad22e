"""Every benchmark still runs. What it measures is for `make bench`, on a machine that does nothing else."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.places import ROOT

SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
PATIENCE_S = 580


@pytest.mark.live
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_runs(script: Path, needs: Any) -> None:
    needs("xllamacpp", "gguf", "genai_bench")
    with subprocess.Popen([sys.executable, script, "--smoke"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            out, _ = child.communicate(timeout=PATIENCE_S)
        finally:
            child.terminate()  # it removes what it has started
    assert child.returncode == 0, out
    assert out.strip()
