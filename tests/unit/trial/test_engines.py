"""Trials of SGLang and vLLM by the command line, with the stand-in engine; genai-bench is a stand-in too."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.tiny_hf import write_tiny_hf
from pipeline.core.errors import FailureKind
from support.cli import Result, pipeline
from support.places import TESTS

SITE, BIN = TESTS / "fakes" / "site", TESTS / "fakes" / "bin"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_hf(tmp_path_factory.mktemp("hf") / "tiny")


@pytest.fixture
def run(tmp_path: Path, model: Path) -> Run:
    """Run the pipeline where `python -m sglang.launch_server` and `vllm serve` are the stand-in."""

    def go(engine: str, *overrides: str, sweep: bool = False, **env: str) -> Result:
        places = {"PYTHONPATH": str(SITE), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        chosen = [f"runtime={engine}", "model=local", f"model.path={model}", "hardware=h100"]
        return pipeline(*chosen, *overrides, folder=tmp_path / "out", gguf=model, sweep=sweep, env={**places, **env})

    return go


def test_the_first_command_people_type(run: Run) -> None:
    result = run("sglang", "attention_backend=flashinfer,fa3", "page_size=32,64", sweep=True)
    assert result.code == 0, result.err
    assert [record.status for record in result.records] == ["ok"] * 4
    for record in result.records:
        asked = {name: record.config.knobs[name] for name in ("attention_backend", "page_size")}
        assert record.settings is not None
        assert {name: record.settings[name] for name in asked} == asked
        assert record.rewrites == ()
        assert record.same_as is None
        assert [level.cache_reset for level in record.levels] == ["flushed by /flush_cache"] * 2


def test_what_fa3_cannot_run_on_is_never_deployed(run: Run) -> None:
    result = run("sglang", "hardware=b200", "attention_backend=flashinfer,fa3", "page_size=64", sweep=True)
    fine, refused = result.records
    assert (fine.status, refused.status) == ("ok", "refused")
    assert refused.failure is not None
    assert refused.failure.message.startswith("Refused: fa3 on compute capability 10.0")
    assert not (result.folder / "1" / "server.log").exists()


def test_a_page_size_that_sglang_rewrites_is_measured_once(run: Run) -> None:
    result = run(
        "sglang", "hardware=b200", "attention_backend=trtllm_mha", "page_size=8,64", sweep=True, STANDIN_GPU="sm100"
    )
    rewritten, plain = result.records
    assert [(item.knob, item.asked, item.got) for item in rewritten.rewrites] == [("page_size", 8, 64)]
    assert plain.same_as == 0
    assert "page_size=8→64" in result.out
    assert any(note.startswith("rewritten: ") and "64" in note for note in rewritten.notes)


def test_vllm_trials_that_resolve_alike_share_one_result(run: Run) -> None:
    result = run("vllm", "block_size=null,16,32", sweep=True)
    assert result.code == 0, result.err
    assert [record.same_as for record in result.records] == [None, 0, None]
    assert result.records[1].levels == result.records[0].levels
    assert [level.cache_reset for level in result.records[2].levels] == ["reset by /reset_prefix_cache"] * 2


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_an_older_version_is_served_with_its_own_flags(run: Run, engine: str) -> None:
    older = {"sglang": "0.5.10.post1", "vllm": "0.19.1"}[engine]
    knob = {"sglang": "cuda_graph_max_bs_decode=16", "vllm": "max_num_seqs=64"}[engine]
    path = f"{TESTS}/fakes/older{os.pathsep}{SITE}"
    result = run(engine, f"runtime.version={older}", knob, PYTHONPATH=path)
    assert result.code == 0, result.err + result.out


def test_another_version_than_the_installed_one_is_refused(run: Run) -> None:
    result = run("sglang", "runtime.version=0.5.10.post1")
    assert (result.code, result.records) == (2, [])
    assert "sglang 0.5.23 is installed" in result.err


BAD_FLAG = ("runtime.extra_args=[--no-such-flag]",)
AMBIGUOUS = ("runtime.extra_args=[--cuda-graph-max-bs,16]", "runtime.rules=[]")
SHORT = ("runtime.health.timeout_s=1",)
FAILURES: dict[str, tuple[str, tuple[str, ...], str | None, str, FailureKind]] = {
    "sglang-bad-flag": ("sglang", BAD_FLAG, None, "health", FailureKind.BAD_FLAG),
    "vllm-bad-flag": ("vllm", BAD_FLAG, None, "health", FailureKind.BAD_FLAG),
    "sglang-ambiguous": ("sglang", AMBIGUOUS, None, "health", FailureKind.BAD_FLAG),
    "sglang-oom": ("sglang", (), "oom_at_load", "health", FailureKind.OOM_GPU),
    "vllm-oom": ("vllm", (), "oom_at_load", "health", FailureKind.OOM_GPU),
    "sglang-loading": ("sglang", SHORT, "slow_start:60", "health", FailureKind.NOT_READY_IN_TIME),
    "vllm-silent": ("vllm", SHORT, "hang_at_start", "health", FailureKind.NOT_READY_IN_TIME),
    "sglang-rejects": ("sglang", (), "rejects", "warmup", FailureKind.WARMUP_FAILED),
    "vllm-hangs": ("vllm", ("timeouts.warmup_s=1",), "hang:0", "warmup", FailureKind.STEP_TIMED_OUT),
    "sglang-dies": ("sglang", (), "dies_under_load:0", "warmup", FailureKind.SERVER_DIED),
}


@pytest.mark.parametrize(
    ("engine", "overrides", "fault", "step", "kind"), [pytest.param(*row, id=name) for name, row in FAILURES.items()]
)
def test_a_failure_is_told_by_its_kind(
    run: Run, *, engine: str, overrides: tuple[str, ...], fault: str | None, step: str, kind: FailureKind
) -> None:
    env: dict[str, Any] = {"STANDIN_FAULT": fault} if fault else {}
    result = run(engine, "runtime.stop_grace_s=1", *overrides, **env)
    assert result.code == 1
    failure = result.record.failure
    assert failure is not None
    assert (failure.step, failure.kind) == (step, kind), failure.message
    assert result.record.teardown is not None
    assert result.record.teardown.is_clean


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_a_slow_start_is_waited_for(run: Run, engine: str) -> None:
    assert run(engine, STANDIN_FAULT="slow_start:1").code == 0
