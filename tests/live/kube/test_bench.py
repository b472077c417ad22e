"""bench.location=cluster: genai-bench in a Job beside the engine, its results here; stand-in and real."""

import json
import os
import signal
import subprocess

import pytest

from live.kube.test_sweep import Command, Run, argv, objects, run
from parts.kube_fixtures import KUBE_MARKS, Kube
from pipeline.backends.kube import leftovers
from pipeline.bench import installed_program
from pipeline.core.schema_backends import Cluster
from pipeline.machine import process
from support.places import ROOT, TESTS

__all__ = ["argv", "run"]
pytestmark = KUBE_MARKS
BESIDE = ("bench.location=cluster", "bench.cluster.image=tests/bench:1")
STUB = (*BESIDE, f"bench.cluster.command=[{TESTS}/fakes/bench/genai-bench]")
REAL = (*BESIDE, f"bench.cluster.command=[{installed_program()}]", "traffic.concurrencies=[1]")


def test_levels_are_measured_beside_the_engine(run: Run, kube: Kube) -> None:
    result = run(*STUB)
    record = result.record
    assert record.status == "ok", record.failure
    assert [level.status for level in record.levels] == ["ok", "ok"]
    assert record.levels[0].result_file is not None
    assert (result.folder / "0" / record.levels[0].result_file).exists()
    assert "stub genai-bench" in next((result.folder / "0" / "bench").rglob("console.log")).read_text()
    assert objects(kube) == []


def test_the_real_one_measures_there_too(run: Run, kube: Kube) -> None:
    result = run(*REAL, "traffic.min_requests=4", "traffic.requests_per_user=4", "traffic.max_time_per_level_s=50")
    record = result.record
    assert record.status == "ok", (record.failure, record.levels)
    (level,) = record.levels
    assert level.metrics is not None
    assert level.metrics.num_requests >= 4  # it looks once a second whether these are done
    assert level.metrics.error_rate == 0
    assert level.result_file is not None
    told = json.loads((result.folder / "0" / level.result_file).read_text())
    assert len(told["individual_request_metrics"]) == level.metrics.num_requests
    assert objects(kube) == []


@pytest.mark.parametrize(
    ("how", "words"),
    [
        pytest.param({"STUB_BENCH": "crash"}, "exit code 1: ValueError: the stub was told to crash", id="crashes"),
        pytest.param({"STUB_BENCH": "all_fail"}, "0 of", id="no-request-answered"),
        pytest.param({"STUB_BENCH": "none"}, "wrote no result", id="writes-nothing"),
    ],
)
def test_a_level_that_fails_costs_its_neighbours_nothing(how: dict[str, str], words: str, run: Run, kube: Kube) -> None:
    kube.operator.use(env={**how, "STUB_BENCH_AT": "1"})
    record = run(*STUB, "traffic.all_levels=true").record
    first, second = record.levels
    assert first.failure is not None
    assert words in first.failure.message
    assert (first.status, second.status, record.status) == ("failed", "ok", "ok")
    assert objects(kube) == []


def test_a_program_that_the_image_has_not_is_told(run: Run, kube: Kube) -> None:
    record = run(*BESIDE, "bench.cluster.command=[/no/such/program]", "traffic.concurrencies=[1]").record
    (level,) = record.levels
    assert level.failure is not None
    assert "/no/such/program" in level.failure.message
    assert objects(kube) == []


def test_ctrl_c_removes_the_job_as_well(argv: Command, kube: Kube) -> None:
    kube.operator.use(env={"STUB_BENCH": "hang"})
    with subprocess.Popen(
        argv(*STUB), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as us:
        try:
            assert process.wait_until(lambda: is_measuring(kube), timeout_s=180)
            trials, _ = leftovers.find(Cluster(kubeconfig=kube.cluster.kubeconfig, namespace=kube.namespace))
            assert [trial.state for trial in trials] == ["in use"], "the Job of the level is none"
        finally:
            os.killpg(us.pid, signal.SIGINT)
            us.communicate(timeout=60)
    assert us.returncode == 130
    assert objects(kube) == []


def is_measuring(kube: Kube) -> bool:
    pods = [one for one in kube.api.list(f"{kube.core}/pods") if "job-name" in one["metadata"]["labels"]]
    return any(one["status"].get("phase") == "Running" for one in pods)
