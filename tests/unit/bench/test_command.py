"""The exact call of genai-bench for one level."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import Job, command
from pipeline.config import planning
from pipeline.core.files import RunDir
from pipeline.core.plan import Assets
from pipeline.engines import http
from support.records import CONFIG, make_config

FILES = Assets(model_path=Path("/m.gguf"), tokenizer_dir=Path("/tok"))
RUN_DIR = Path("/runs/s/3")


def job(*, max_time_s: float = 10.0, scenario: str = "D(64,16)", users: int = 1, **sections: Any) -> Job:
    traffic = {**CONFIG["traffic"], "concurrencies": [users], "scenarios": [scenario]}
    config = make_config(traffic=traffic, **sections)
    made = planning.make(config, FILES, sweep_id="s", number=3, run_dir=RUN_DIR)
    level = replace(made.levels[0], max_time_s=max_time_s)
    return command.job(config, made, level, url="http://127.0.0.1:8000", label="s-3-abcd")


def options(argv: tuple[str, ...]) -> Mapping[str, str]:
    return dict(zip(argv[1::2], argv[2::2], strict=True))


def test_every_option_has_a_value() -> None:
    argv = job().argv
    assert argv[0] == "benchmark"
    assert all(word.startswith("--") for word in argv[1::2])
    assert all(not word.startswith("--") for word in argv[2::2])


def test_the_level_is_what_the_plan_says() -> None:
    given = options(job(users=4, scenario="N(200,100)/(120,60)").argv)
    assert given["--num-concurrency"] == "4"
    assert given["--traffic-scenario"] == "N(200,100)/(120,60)"
    assert given["--max-requests-per-run"] == "8"
    assert given["--api-base"] == "http://127.0.0.1:8000"
    assert given["--api-model-name"] == given["--model"] == "tiny"
    assert given["--metrics-time-unit"] == "s"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("--api-backend", "--api-key"),
        ("--api-key", "--task"),
        ("--task", "--traffic-scenario"),
        ("--model-tokenizer", "--model"),
        ("--iteration-type", "--num-concurrency"),
    ],
)
def test_genai_benchs_callbacks_find_what_they_read(first: str, then: str) -> None:
    argv = job().argv
    assert argv.index(first) < argv.index(then)


@pytest.mark.parametrize(
    ("seconds", "minutes"),
    [(0.5, "1"), (60.0, "1"), (60.1, "2"), (900.0, "15")],
    ids=["part-of-one", "exactly-one", "just-over-one", "fifteen"],
)
def test_time_is_in_whole_minutes_rounded_up(seconds: float, minutes: str) -> None:
    assert options(job(max_time_s=seconds).argv)["--max-time-per-run"] == minutes


def test_a_call_that_hangs_is_waited_for_only_so_long() -> None:
    made = job(max_time_s=10.0, bench={**CONFIG["bench"], "level_grace_s": 30})  # and traffic.drain_s
    assert (made.max_time_s, made.timeout_s) == (10.0, 50.0)


@pytest.mark.parametrize(
    ("hardware", "expected"),
    [
        ({"gpu_count": 0}, {"--server-gpu-count": "0"}),
        ({"gpu_count": 8, "gpu_type": "H100"}, {"--server-gpu-count": "8", "--server-gpu-type": "H100"}),
    ],
    ids=["cpu", "gpus"],
)
def test_a_gpu_type_is_given_only_where_there_is_one(hardware: dict[str, Any], expected: dict[str, str]) -> None:
    given = options(job(hardware={"name": "x", **hardware}).argv)
    assert {name: item for name, item in given.items() if name.startswith("--server-gpu")} == expected


@pytest.mark.parametrize(("asked", "workers"), [("auto", None), (3, 3)])
def test_users_are_shared_out_as_asked(asked: str | int, workers: int | None) -> None:
    assert job(bench={**CONFIG["bench"], "workers": asked}).workers == workers


def test_results_go_to_the_levels_own_folder() -> None:
    made = job(users=4)
    folder = RunDir(RUN_DIR).level("D(64,16)", 4)
    given = options(made.argv)
    assert made.folder == folder
    assert Path(given["--experiment-base-dir"]) / given["--experiment-folder-name"] == folder
    assert given["--log-dir"] == str(folder)


def test_the_real_key_is_never_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(http.API_KEY_ENV, "very-secret-key")
    made = job()
    assert "very-secret-key" not in " ".join(made.argv)
    assert options(made.argv)["--api-key"] == command.PLACEHOLDER_KEY


def test_levels_carry_the_plans_seed_and_the_leases_label() -> None:
    made, other = job(users=1), job(users=2)
    assert made.label == "s-3-abcd"
    assert made.seed != other.seed


@pytest.mark.parametrize(
    ("base", "hosts"),
    [({}, "127.0.0.1,localhost"), ({"NO_PROXY": "intra.net"}, "intra.net,127.0.0.1,localhost")],
    ids=["none-before", "kept"],
)
def test_no_proxy_comes_between_genai_bench_and_the_server(base: dict[str, str], hosts: str) -> None:
    made = command.environment(base)
    assert made["NO_PROXY"] == made["no_proxy"] == hosts


def test_genai_bench_stays_off_the_terminal_and_the_network() -> None:
    made = command.environment({"PATH": "/bin", "ENABLE_UI": "true"})
    assert made["PATH"] == "/bin"
    assert made["ENABLE_UI"] == "false"
    assert made["HF_HUB_OFFLINE"] == "1"
