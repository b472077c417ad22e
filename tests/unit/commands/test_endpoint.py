"""`backend=endpoint` from the command line: servers that are there are compared, and left as they were."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from fakes import make_lease
from fakes.openai_server import OpenAI, serving
from pipeline.backends import lease
from pipeline.config.endpoints import TARGET
from support import forked
from support.cli import Result, command
from support.places import FAKES

BASE = [
    f"hydra.searchpath=[file://{FAKES}/conf]",
    "backend=endpoint",
    "traffic=two_levels",
    "traffic.concurrencies=[1]",
    "tracker=none",
    "bench.runner=cli",
    f"bench.program={FAKES}/bench/genai-bench",
]
SEARCH = ["hydra.sweeper.confirm=5"]


@pytest.fixture
def slow() -> Iterator[OpenAI]:
    with serving(prefix="/100") as server:
        yield server


@pytest.fixture
def fast() -> Iterator[OpenAI]:
    with serving(prefix="/200") as server:
        yield server


def pipeline(folder: Path, *overrides: str, sweep: bool = False, module: str = "pipeline", **env: str) -> Result:
    """Run `python -m pipeline [-m] ...`; the stand-in for genai-bench claims the rate that a URL ends with."""
    places = [f"hydra.run.dir={folder}/0", f"hydra.sweep.dir={folder}"] if module == "pipeline" else []
    argv = [*command(sweep=sweep, module=module), *BASE, *places, *overrides]
    return run(argv, folder, **env)


def run(argv: Sequence[str], folder: Path, **env: str) -> Result:
    done = forked.run(argv, env={**os.environ, "STUB_BENCH_RATE": "path", **env}, timeout_s=240)
    return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder)


def answers(server: OpenAI) -> bool:
    return requests.get(f"{server.url}/v1/models", timeout=10).ok


def test_the_better_of_two_servers_is_found_against_the_first(tmp_path: Path, slow: OpenAI, fast: OpenAI) -> None:
    result = pipeline(tmp_path / "out", *SEARCH, f"backend.url={slow.url},{fast.url}/v1", sweep=True)
    assert result.code == 0, result.err
    first, second, *_ = result.records
    assert (first.config.backend.url, second.config.backend.url) == (slow.url, fast.url)
    assert (first.is_baseline, second.is_baseline) == (True, False)
    best = json.loads((result.folder / "best.json").read_text())
    assert (best["trial_id"], best["verdict"]) == (second.trial_id, "confirmed")
    assert best["against_baseline"] == pytest.approx(1.0, rel=0.1)
    assert best["server_command"] == f"{fast.url} (it was there already)"
    assert f"backend.url={fast.url}" in result.out
    assert "<title>tiny on a server that was there already" in (result.folder / "report.html").read_text()
    assert {record.teardown.is_clean for record in result.records if record.teardown} == {True}
    assert all("nothing was deployed" in " ".join(record.notes) for record in result.records)
    assert [*lease.all_registered()] == []
    assert answers(slow)
    assert answers(fast)


def test_a_sweep_goes_on_and_its_best_is_rechecked(tmp_path: Path, slow: OpenAI, fast: OpenAI) -> None:
    given = [f"backend.url={slow.url},{fast.url}", "hydra.sweeper.confirm=0"]
    first = pipeline(tmp_path / "out", *given, "hydra.sweeper.n_trials=1", sweep=True)
    assert (first.code, len(first.records)) == (0, 1)
    whole = pipeline(tmp_path / "out", *given, sweep=True)
    assert (whole.code, len(whole.records)) == (0, 2)
    best = whole.folder / "best"
    assert not (best / "serve.sh").exists()
    assert (
        "the server was there already"
        in json.loads((best / "card.json").read_text())["left_out"]["what starts the engine"]
    )
    again = run([*command(sweep=False, module="pipeline.recheck"), str(best)], whole.folder)
    assert again.code == 0, again.err
    assert "as expected" in again.out
    assert fast.url in (best / "command.sh").read_text()


def test_one_of_two_servers_that_is_not_there_costs_its_own_trial(tmp_path: Path, fast: OpenAI) -> None:
    given = [f"backend.url={fast.url},http://localhost:1/100", "hydra.sweeper.confirm=0"]
    result = pipeline(tmp_path / "out", *given, sweep=True)
    good, bad = result.records
    assert (result.code, good.status, bad.status) == (0, "ok", "failed")
    assert bad.failure is not None
    assert bad.failure.kind == "backend_down"
    assert "connection refused: nothing listens on port 1" in bad.failure.message
    assert "there already" not in " ".join(bad.notes)


def test_what_is_wrong_for_all_is_said_once_before_anything(tmp_path: Path, fast: OpenAI) -> None:
    given = [f"backend.url={fast.url}", "backend.served_name=big", "traffic.seed=1,2,3"]
    result = pipeline(tmp_path / "out", *given, sweep=True)
    assert result.code == 2
    assert f"backend.served_name=big: {fast.url} does not serve it. It serves: tiny." in result.err
    assert result.err.count("does not serve it") == 1
    assert not result.folder.exists()


def test_a_dry_run_says_where_it_would_measure(tmp_path: Path, fast: OpenAI) -> None:
    result = pipeline(tmp_path / "out", f"backend.url={fast.url}", "dry_run=true")
    assert result.code == 0
    assert f"server   {fast.url}: it is there already, so nothing is deployed" in result.out
    assert "warned: neither model.tokenizer nor model.repo is set" in result.out
    assert fast.chats == []
    assert not result.folder.exists()


def test_the_doctor_asks_for_no_engine_no_gpu_and_no_weights(tmp_path: Path, fast: OpenAI) -> None:
    given = [f"backend.url={fast.url}", "runtime=sglang", "hardware=h100", "model=glm46_fp8"]
    result = pipeline(tmp_path / "out", *given, module="pipeline.doctor")
    assert (result.code, "FAIL" in result.out) == (0, False), result.out
    assert f"ok    endpoint: {fast.url} serves tiny" in result.out
    assert "its tokenizer is that of" in result.out


def test_a_trial_that_was_killed_had_left_no_server(tmp_path: Path, fast: OpenAI) -> None:
    """Its lease is taken off the register, and nobody is told of a server that was removed."""
    (tmp_path / "gone").mkdir()
    gone = replace(make_lease(tmp_path / "gone"), backend=TARGET)
    lease.update(replace(gone, owner=replace(gone.owner, start_ticks=gone.owner.start_ticks - 1)))
    result = pipeline(tmp_path / "out", f"backend.url={fast.url}")
    assert (result.code, [*lease.all_registered()]) == (0, []), result.err
    assert "had left its server" not in result.err
    assert answers(fast)
