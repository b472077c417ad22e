"""scripts/gpu-check on the CPU: a real sweep of runtime=transformers, and a real SIGKILL."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parts import engine_env
from support.engine_sweeps import Engine
from support.places import ROOT

pytestmark = [pytest.mark.live, pytest.mark.timeout(2400)]
COMMAND = [sys.executable, str(ROOT / "scripts" / "gpu-check")]


def test_on_the_cpu_it_measures_kills_and_gives_everything_back(vllm: Engine, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    argv = [*COMMAND, "--cpu", "--engine", str(vllm.python), "--to", str(tmp_path / "check"), "--json", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=2000, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    result = json.loads(file.read_text())
    assert result["problems"] == []
    small = {"cb_num_blocks=16", "cb_max_batch_tokens=256"}
    assert [{*trial["overrides"].split()} for trial in result["trials"]] == [
        {"continuous_batching=null", *small},
        {"continuous_batching=True", *small},
    ]
    for trial in result["trials"]:
        (level,) = trial["levels"].values()
        assert level["errors"] == 0
        assert level["output_tokens_per_s"] > 0
        assert trial["slots"] == {"cores": trial["slots"]["cores"]}
        assert trial["left behind"] == []
    assert result["after SIGKILL"]["processes left"] > 1
    assert "all is well" in done.stdout


def test_without_a_gpu_it_says_so_and_is_content(tmp_path: Path) -> None:
    hidden = {"PATH": str(tmp_path), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run(
        COMMAND, env={**os.environ, **hidden}, capture_output=True, text=True, timeout=60, check=False
    )
    if engine_env.SURROUNDINGS.get("NVIDIA_VISIBLE_DEVICES"):
        pytest.skip("there is a GPU here")
    assert done.returncode == 0
    assert done.stdout.startswith("no GPU here")
