"""The real aiperf against a server of known pace: its account becomes ours, and nothing of it stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from parts import aiperf_env
from pipeline.bench import aiperf_command, command
from pipeline.bench.aiperf import Aiperf
from pipeline.config import planning
from pipeline.core.record import Level
from pipeline.machine import process
from support.measuring import Make, Planned, measure
from support.places import ROOT

pytestmark = pytest.mark.live
SERVER = ROOT / "benchmarks" / "parts" / "known_pace.py"
LABEL = "test-aiperf"


@pytest.fixture
def runner() -> Aiperf:
    if aiperf_env.FOUND is None:
        pytest.skip(f"no aiperf: {aiperf_env.GIVEN} names none, and none is on PATH (make generators installs it)")
    return Aiperf(Path(aiperf_env.FOUND).absolute())


@pytest.fixture
def url() -> Iterator[str]:
    with subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True) as server:
        yield f"http://127.0.0.1:{int(server.stdout.readline() if server.stdout else 0)}"
        server.kill()


def by_aiperf(make: Make, url: str, **traffic: Any) -> Planned:
    """The first level of a trial with that traffic, as aiperf would be called for it."""
    given = make(url)
    config = replace(
        given.config,
        traffic=replace(given.config.traffic, **traffic),
        bench=replace(given.config.bench, runner="aiperf"),
    )
    plan = replace(given.plan, levels=tuple(planning.levels(config)))
    return Planned(config, plan, command.job(config, plan, plan.levels[0], url=url, label=LABEL))


def measured(make: Make, runner: Aiperf, url: str, **traffic: Any) -> Level:
    return measure(runner, by_aiperf(make, url, **traffic), url)


def left() -> list[str]:
    """Its processes, and what it puts below the folder for temporary files."""
    found = [one.info["name"] for one in psutil.process_iter(["name", "environ"]) if _is_ours(one)]
    return found + [one.name for one in Path(tempfile.gettempdir()).glob("servetune-aiperf-*")]


def _is_ours(one: psutil.Process) -> bool:
    return (one.info["environ"] or {}).get(process.LABEL) == LABEL and one.info["name"] != "zombie"


@pytest.mark.parametrize(
    ("traffic", "name"),
    [
        ({"concurrencies": (2,), "min_requests": 6, "requests_per_user": 1}, "D(48,16) x2"),
        ({"arrival": "poisson", "rates": (4.0,), "arrivals_s": 1.5, "min_requests": 6}, "D(48,16) at 4 requests/s"),
    ],
    ids=["users", "rate"],
)
def test_a_level_of_aiperf_is_a_level(make: Make, runner: Aiperf, url: str, traffic: dict[str, Any], name: str) -> None:
    level = measured(make, runner, url, **traffic)
    seen = level.metrics
    assert seen is not None
    assert level.name == name
    assert (seen.num_planned, seen.num_begun, seen.fates) == (6, 6, {"good": 6})
    assert seen.output_tokens_mean == 16
    assert seen.ttft is not None
    assert seen.ttft.mean >= 0.04
    assert (level.arrivals is not None) == ("rates" in traffic)
    assert left() == []


def test_prompts_have_the_lengths_of_the_scenario(make: Make, runner: Aiperf, url: str) -> None:
    given = by_aiperf(make, url, scenarios=("U(20,40)/(3,9)",), min_requests=5, concurrencies=(1,), requests_per_user=1)
    measure(runner, given, url)
    lines = (given.job.folder / "profile_export.jsonl").read_text().splitlines()
    sent = {
        one["metadata"]["session_num"]: one["metrics"]["usage_completion_tokens"]["value"]
        for one in map(json.loads, lines)
    }
    asked = aiperf_command.lengths(given.plan.levels[0])
    assert [sent[number] for number in range(5)] == [answer for _, answer in asked]


def test_a_server_that_is_not_there_is_told(make: Make, runner: Aiperf) -> None:
    level = measured(make, runner, "http://127.0.0.1:9", concurrencies=(1,), min_requests=2, requests_per_user=1)
    assert level.status == "failed"
    assert level.failure is not None
    assert "0 of 2 requests answered" in level.failure.message


def test_one_that_is_broken_off_leaves_nothing(make: Make, runner: Aiperf, url: str) -> None:
    given = by_aiperf(make, url, arrival="constant", rates=(1.0,), arrivals_s=100.0)
    begun = given.job.folder / "logs"

    def stop() -> None:
        if begun.exists() and os.listdir(begun):  # noqa: PTH208
            raise KeyboardInterrupt

    given.plan.run_dir.mkdir(exist_ok=True)
    with pytest.raises(KeyboardInterrupt):
        runner.run(given.job, stop)
    assert process.wait_until(lambda: left() == [], timeout_s=180)
