"""Whole sweeps of runtime=sglang and runtime=vllm with the real genai-bench; only the engine is a stand-in."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.tiny_hf import write_tiny_hf
from pipeline.core.errors import FailureKind
from support.cli import Result, command
from support.places import ROOT, TESTS

pytestmark = pytest.mark.live
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the pipeline where the stand-in is installed; nothing else is replaced."""

    def go(engine: str, *overrides: str, **env: str) -> Result:
        out = tmp_path / "out"
        argv = [
            *command(sweep=True),
            f"hydra.searchpath=[file://{TESTS}/fakes/conf]",
            f"runtime={engine}",
            "model=local",
            f"model.path={write_tiny_hf(tmp_path / 'tiny')}",
            "hardware=h100",
            "traffic=two_levels",
            "tracker=none",
            "hydra.sweeper.confirm=0",
            f"hydra.sweep.dir={out}",
            *overrides,
        ]
        places = {
            "PYTHONPATH": f"{TESTS}/fakes/site",
            "PATH": f"{TESTS}/fakes/bin{os.pathsep}{os.environ['PATH']}",
        }
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env={**os.environ, **places, **env},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=out)

    return go


def test_the_first_command_people_type_is_measured(needs: Callable[..., None], run: Run) -> None:
    needs("genai_bench")
    result = run("sglang", "attention_backend=flashinfer,fa3", "page_size=32,64")
    assert result.code == 0, result.err
    assert [record.status for record in result.records] == ["ok"] * 5  # the baseline, and what was asked for
    assert [record.is_baseline for record in result.records] == [True, False, False, False, False]
    for record in result.records:
        assert [level.status for level in record.levels] == ["ok", "ok"]
        for level in record.levels:
            assert level.metrics is not None
            assert level.metrics.num_errors == 0
            assert level.metrics.output_tokens_mean == 16
            assert level.cache_reset == "flushed by /flush_cache"
    assert "rank" in result.out


def test_an_overloaded_level_costs_nothing_but_itself(needs: Callable[..., None], run: Run) -> None:
    needs("genai_bench")
    result = run("vllm", "max_num_seqs=null", STANDIN_FAULT="overload:2")
    (record,) = result.records
    assert result.code == 0, result.err
    assert record.status == "ok"
    assert record.best_level == "D(48,16) x1"
    usable, refused = record.levels
    assert usable.status == "ok"
    assert refused.metrics is None or not refused.metrics.is_usable


def test_a_server_that_dies_under_load_keeps_what_was_measured(needs: Callable[..., None], run: Run) -> None:
    needs("genai_bench")
    (record,) = run("sglang", "page_size=null", STANDIN_FAULT="dies_under_load:8").records
    assert record.failure is not None
    assert (record.failure.step, record.failure.kind) == ("bench", FailureKind.SERVER_DIED)
    assert [level.status for level in record.levels] == ["ok", "failed"]
    assert record.teardown is not None
    assert record.teardown.is_clean
