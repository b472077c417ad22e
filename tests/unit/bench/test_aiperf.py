"""aiperf as a load generator: what it is told to send, and what is read of its account."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import bench
from pipeline.bench import Job, aiperf_command, aiperf_export, command, results
from pipeline.bench.aiperf import Aiperf
from pipeline.bench.command import CONSOLE
from pipeline.config import planning
from pipeline.core.errors import BenchFailed
from pipeline.core.plan import Assets, LevelPlan
from pipeline.core.schema import Config
from pipeline.engines import http
from pipeline.machine import process
from pipeline.machine.companion import OWNER
from support.records import make_config

ASSETS = Assets(model_path=Path("/m/tiny.gguf"), tokenizer_dir=Path("/m/tokenizer"))
START_NS = 1_796_060_328_000_000_000
MS = 1_000_000


def config(**traffic: Any) -> Config:
    made = make_config()
    return replace(
        made, traffic=replace(made.traffic, **traffic), bench=replace(made.bench, runner="aiperf", workers="auto")
    )


def planned(given: Config, run_dir: Path = Path("/runs/0")) -> tuple[Job, LevelPlan]:
    plan = planning.make(given, ASSETS, sweep_id="s", number=0, run_dir=run_dir)
    return command.job(given, plan, plan.levels[0], url="http://h:1", label="t"), plan.levels[0]


def words(job: Job) -> dict[str, str]:
    return {job.argv[at]: job.argv[at + 1] for at in range(1, len(job.argv) - 1) if job.argv[at].startswith("--")}


def test_users_are_a_concurrency_and_rates_a_schedule() -> None:
    job, level = planned(config())
    given = words(job)
    assert (given["--concurrency"], given["--request-count"]) == (str(level.concurrency), str(level.max_requests))
    assert "--fixed-schedule" not in job.argv
    assert job.lengths == ((64, 16),) * level.max_requests

    job, level = planned(config(arrival="poisson", rates=(8.0,)))
    assert "--concurrency" not in job.argv
    assert "--fixed-schedule" in job.argv
    assert len(job.times) == len(job.lengths) == level.max_requests


def test_the_order_is_a_file_of_lengths_and_times(tmp_path: Path) -> None:
    given = config(arrival="constant", rates=(4.0,), arrivals_s=0.5, min_requests=1)
    job, _ = planned(given, tmp_path)
    run(job, "pass")
    sent = [json.loads(line) for line in (job.folder / aiperf_export.REQUESTS).read_text().splitlines()]
    assert sent == [
        {"timestamp": 0.0, "input_length": 64, "output_length": 16},
        {"timestamp": 250.0, "input_length": 64, "output_length": 16},
    ]


def run(job: Job, script: str) -> str | None:
    """A program in aiperf's place, which gets its arguments; what the runner says of its end."""
    program = job.folder.parent / "program"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!{sys.executable}\nimport os, sys, time\n{script}\n")
    program.chmod(0o700)
    return Aiperf(program).run(job, lambda: None).error


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("pass", None),
        ("print('INFO ready'); print('ERROR no such model'); print('bye'); sys.exit(3)", "exit code 3: ERROR no such"),
        ("sys.exit(4)", "exit code 4: no output"),
    ],
)
def test_an_end_is_told_in_aiperfs_words(tmp_path: Path, script: str, told: str | None) -> None:
    error = run(planned(config(), tmp_path)[0], script)
    assert error is None if told is None else told in str(error)


def test_one_that_hangs_is_ended_with_its_children_and_its_files(tmp_path: Path) -> None:
    script = "child = os.fork()\nprint(os.getpid(), os.environ['TMPDIR'], flush=True)\ntime.sleep(600)"

    def hung(timeout_s: float) -> tuple[str, str | None, list[list[str]]]:
        job, _ = planned(config(), tmp_path / f"{timeout_s:g}")
        error = run(replace(job, timeout_s=timeout_s), script)
        said = [line.split() for line in (job.folder / CONSOLE).read_text().splitlines()]
        return f"{timeout_s:g} s", error, said

    tries = map(hung, (1.0, 10.0, 100.0))  # longer where a busy machine has not started both in time
    limit, error, said = next(one for one in tries if len(one[2]) == 2)
    assert error == f"aiperf did not end within {limit} and was stopped"
    assert process.wait_until(lambda: not any(is_running(int(pid)) for pid, _ in said), timeout_s=180)
    assert not any(Path(scratch).exists() for _, scratch in said)


def test_its_files_say_whose_they_are_for_whoever_tidies_up_after_us(tmp_path: Path) -> None:
    job, _ = planned(config(), tmp_path)
    run(job, "print(*os.listdir(os.environ['TMPDIR']))")
    assert (job.folder / CONSOLE).read_text().split() == [OWNER]


def test_another_program_has_a_runner_of_its_own(tmp_path: Path) -> None:
    given = [replace(config().bench, program=tmp_path / name) for name in ("one", "other", "one")]
    made = [bench.runner(each, tmp_path / "log") for each in given]
    bench.close()
    assert [each.program for each in made if isinstance(each, Aiperf)] == [each.program for each in given]
    assert made[0] is made[2]


def is_running(pid: int) -> bool:
    """What nobody waits for stays as a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_tokenizer_is_not_looked_for_offline(tmp_path: Path) -> None:
    """aiperf 0.13.0 takes a folder only where Hugging Face may be asked."""
    job, _ = planned(config(), tmp_path)
    run(job, "print(os.environ.get('HF_HUB_OFFLINE'), os.environ['NO_PROXY'])")
    told = (job.folder / CONSOLE).read_text()
    assert told.startswith("None ")
    assert "127.0.0.1" in told


def test_a_key_is_not_given_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Aiperf(tmp_path)
    runner.wait_ready(timeout_s=1, watch=lambda: None)
    monkeypatch.setenv(http.API_KEY_ENV, "sk-secret")
    with pytest.raises(BenchFailed, match=r"Use bench\.runner=resident"):
        runner.wait_ready(timeout_s=1, watch=lambda: None)


def line(number: int, at_ms: int, takes_ms: int = 400, **changes: Any) -> dict[str, Any]:
    """As aiperf 0.13.0 writes it, but for what is not read."""
    metadata = {
        "session_num": number,
        "request_start_ns": START_NS + at_ms * MS,
        "request_end_ns": START_NS + (at_ms + takes_ms) * MS,
        "benchmark_phase": "profiling",
        "was_cancelled": False,
    }
    numbers = {
        "time_to_first_token": (40.0, "ms"),
        "request_latency": (float(takes_ms), "ms"),
        "inter_token_latency": (24.0, "ms"),
        "inter_chunk_latency": ([24.0] * 15, "ms"),
        "usage_prompt_tokens": (64, "tokens"),
        "usage_completion_tokens": (16, "tokens"),
    }
    metrics = {name: {"value": number, "unit": unit} for name, (number, unit) in numbers.items()}
    told: dict[str, Any] = {"metadata": metadata, "metrics": metrics}
    for name, change in changes.items():
        told[name] = {**told.get(name, {}), **change}
    return told


def left(folder: Path, level: LevelPlan, *lines: dict[str, Any], rate: float | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    asked = [
        {"input_length": 64, "output_length": 16, **({"timestamp": 1000 * at / rate} if rate else {})}
        for at in range(level.max_requests)
    ]
    (folder / aiperf_export.REQUESTS).write_text("".join(json.dumps(one) + "\n" for one in asked))
    (folder / aiperf_export.NAME).write_text("".join(json.dumps(one) + "\n" for one in lines))


def test_each_request_of_its_account_is_one_of_ours(tmp_path: Path) -> None:
    _, level = planned(config())
    error = {"code": 503, "type": "Service Unavailable", "message": "engine dead"}
    left(
        tmp_path,
        replace(level, max_requests=5),
        line(0, 0),
        line(1, 100, metrics={"usage_completion_tokens": {"value": 9, "unit": "tokens"}}),
        line(2, 200, metrics={"inter_chunk_latency": {"value": [0.1] * 15, "unit": "ms"}}),
        line(3, 300, error=error, metrics={}),
        line(4, 500, metadata={"was_cancelled": True}),
        line(0, 0, metadata={"benchmark_phase": "warmup"}),
    )
    seen, path = results.of(tmp_path, replace(level, max_requests=5, output_tokens_exact=16))
    good, short, at_once, failed, still_open = seen.requests
    assert path.name == aiperf_export.NAME
    assert (good.ttft_s, good.tpot_s, good.e2e_s, good.input_tokens) == (0.04, 0.024, 0.4, 64)
    assert (good.ending, good.fault) == ("answered", None)
    assert short.fault == "9 of 16 tokens"
    assert (at_once.is_in_one_piece, at_once.tpot_s) == (True, None)
    assert (failed.ending, failed.cause, failed.words) == ("failed", "503", "engine dead")
    assert (still_open.ending, still_open.open_s) == ("open", 0.4)
    assert (seen.run_duration_s, seen.planned, seen.is_cut) == (0.9, 5, True)
    assert seen.arrivals is None


def test_what_is_missing_in_its_account_is_told(tmp_path: Path) -> None:
    _, level = planned(config())
    left(tmp_path, replace(level, max_requests=3), line(0, 0))
    seen, _ = results.of(tmp_path, replace(level, max_requests=3))
    assert seen.is_cut
    assert seen.notes == ("2 of 3 requests are in no count of aiperf: not sent in time, or lost",)


def test_a_rate_has_its_arrivals(tmp_path: Path) -> None:
    _, level = planned(config(arrival="constant", rates=(10.0,)))
    short = replace(level, max_requests=3)
    left(tmp_path, short, line(0, 0), line(1, 100), line(2, 280), rate=10.0)
    seen, _ = results.of(tmp_path, short)
    assert seen.arrivals is not None
    assert seen.arrivals.late_max_s == pytest.approx(0.08)
    assert seen.arrivals.in_flight_max == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "aiperf counted no request"), ("{}\n", "Cannot read"), ("no json\n", "Cannot read")],
)
def test_an_account_that_cannot_be_used_is_told(tmp_path: Path, text: str, told: str) -> None:
    _, level = planned(config())
    left(tmp_path, level)
    (tmp_path / aiperf_export.NAME).write_text(text)
    with pytest.raises(BenchFailed, match=told):
        results.of(tmp_path, level)


@pytest.mark.parametrize("scenario", ["D(64,16)", "N(64,8)/(16,4)", "U(10,20)/(3,5)", "U(20,5)"])
def test_lengths_are_drawn_as_the_scenario_says(scenario: str) -> None:
    _, level = planned(config(scenarios=(scenario,)))
    many = replace(level, max_requests=400)
    drawn = aiperf_command.lengths(many)
    assert drawn == aiperf_command.lengths(many)
    assert drawn != aiperf_command.lengths(replace(many, seed=many.seed + 1)) or scenario.startswith("D")
    prompts, answers = zip(*drawn, strict=True)
    bounds = {"D(64,16)": (64, 64, 16, 16), "U(10,20)/(3,5)": (10, 20, 3, 5), "U(20,5)": (1, 20, 1, 5)}
    if limits := bounds.get(scenario):
        assert (min(prompts), max(prompts), min(answers), max(answers)) == limits
    else:
        assert sum(prompts) / len(prompts) == pytest.approx(64, abs=2)
        assert min(answers) >= 1
