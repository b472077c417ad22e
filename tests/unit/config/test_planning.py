"""From a configuration to the exact command and levels."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import planning
from pipeline.core import plan
from pipeline.core.errors import ConfigError
from pipeline.core.plan import Assets, Plan
from pipeline.core.schema import Config
from pipeline.engines import server_command
from support.records import CONFIG, make_config

FILES = Assets(model_path=Path("/models/m.gguf"), tokenizer_dir=Path("/tok"))
RUN_DIR = Path("/runs/s/3")
KNOBS = {
    "threads": {"kind": "int", "flag": "--threads", "help": "x"},
    "share": {"kind": "float", "flag": "--share", "help": "x"},
    "attention": {"kind": "choice", "flag": "--attn", "choices": ["on", "off"], "help": "x"},
    "unified": {"kind": "bool", "flag": "--unified", "false_flag": "--no-unified", "help": "x"},
    "switch": {"kind": "bool", "flag": "--switch", "help": "x"},
}


def configured(*, traffic: dict[str, Any] | None = None, knobs: dict[str, Any] | None = None, **runtime: Any) -> Config:
    return make_config(
        runtime={**CONFIG["runtime"], "knobs": KNOBS, **runtime},
        traffic={**CONFIG["traffic"], **(traffic or {})},
        knobs={**dict.fromkeys(KNOBS), **(knobs or {})},
    )


def planned(config: Config) -> Plan:
    return planning.make(config, FILES, sweep_id="s", number=3, run_dir=RUN_DIR)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({}, ()),
        ({"threads": 4}, ("--threads", "4")),
        ({"threads": 0}, ("--threads", "0")),
        ({"share": 0.5}, ("--share", "0.5")),
        ({"attention": "off"}, ("--attn", "off")),
        ({"unified": True}, ("--unified",)),
        ({"unified": False}, ("--no-unified",)),
        ({"switch": True}, ("--switch",)),
        ({"switch": False}, ()),
        ({"switch": True, "threads": 2, "share": 1.0}, ("--threads", "2", "--share", "1.0", "--switch")),
    ],
    ids=["null", "int", "zero", "float", "choice", "true", "false", "switch-on", "switch-off", "in-the-files-order"],
)
def test_a_knob_is_spelled_as_the_engine_spells_it(knobs: dict[str, Any], words: tuple[str, ...]) -> None:
    assert server_command.flags(configured(knobs=knobs)) == words


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["serve", "{model}"], ("serve", "/models/m.gguf")),
        (["{python}", "-m", "x"], (sys.executable, "-m", "x")),
        (["x", "--host={host}", "--port={port}"], ("x", "--host=127.0.0.1", "--port={port}")),
        (["x", "{served_name}", "{run_dir}/slots"], ("x", "tiny", "/runs/s/3/slots")),
        (["x", '{{"json": 1}}'], ("x", '{"json": 1}')),
    ],
    ids=["model", "python", "port-stays-open", "name-and-folder", "braces"],
)
def test_the_command_is_filled_in(command: list[str], words: tuple[str, ...]) -> None:
    assert server_command.argv(configured(command=command), FILES, RUN_DIR) == words


def test_extra_arguments_come_last() -> None:
    made = configured(command=["serve"], extra_args=["--verbose", "{model}"], knobs={"threads": 4})
    assert server_command.argv(made, FILES, RUN_DIR) == ("serve", "--threads", "4", "--verbose", "{model}")


@pytest.mark.parametrize("word", ["{modell}", "{}", "{0}", "{"], ids=["typo", "empty", "number", "open"])
def test_an_unknown_placeholder_is_refused_with_those_there_are(word: str) -> None:
    with pytest.raises(ConfigError, match=r"runtime.command: unknown placeholder .*\{python\}, \{model\}, .*\{port\}"):
        server_command.argv(configured(command=["serve", word]), FILES, RUN_DIR)


def test_concurrencies_rise_once_each_within_a_scenario() -> None:
    traffic = {"scenarios": ["D(64,16)", "D(8,4)"], "concurrencies": [4, 1, 4, 2]}
    levels = planned(configured(traffic=traffic)).levels
    assert [(level.scenario, level.concurrency) for level in levels] == [
        ("D(64,16)", 1), ("D(64,16)", 2), ("D(64,16)", 4), ("D(8,4)", 1), ("D(8,4)", 2), ("D(8,4)", 4),
    ]  # fmt: skip


def test_no_two_levels_share_a_seed() -> None:
    scenarios = [f"D({tokens},16)" for tokens in range(1, 40)]
    levels = planned(configured(traffic={"scenarios": scenarios, "concurrencies": [*range(1, 513)]})).levels
    assert len({level.seed for level in levels}) == len(levels)


def test_trials_of_one_traffic_see_the_same_prompts() -> None:
    one, other = planned(configured(knobs={"threads": 1})), planned(configured(knobs={"threads": 8}))
    assert one.levels == other.levels
    assert one.argv != other.argv


def test_another_seed_gives_other_prompts() -> None:
    one, other = (planned(configured(traffic={"seed": seed})).levels for seed in (0, 10_000_019))
    assert {level.seed for level in one}.isdisjoint(level.seed for level in other)


@pytest.mark.parametrize(
    ("minimum", "per_user", "users", "expected"),
    [(16, 4, 1, 16), (16, 4, 4, 16), (16, 4, 5, 20), (1, 1, 1, 1)],
    ids=["minimum-wins", "equal", "users-win", "one"],
)
def test_a_level_sends_enough_requests_for_its_users(minimum: int, per_user: int, users: int, expected: int) -> None:
    traffic = {"min_requests": minimum, "requests_per_user": per_user, "concurrencies": [users]}
    (level,) = planned(configured(traffic=traffic)).levels
    assert level.max_requests == expected


def test_a_level_knows_what_is_asked_of_the_server() -> None:
    levels = planned(configured(traffic={"scenarios": ["D(64,16)", "U(4,8)/(10,20)"], "concurrencies": [1]})).levels
    assert [level.output_tokens_asked for level in levels] == [16.0, 15.0]


def test_the_plan_names_the_trial_and_its_files() -> None:
    made = planned(configured(env={"OMP_NUM_THREADS": "2"}, secret_env={"KEY": "SERVETUNE_API_KEY"}))
    assert (made.trial_id, made.number, made.run_dir) == ("s/3", 3, RUN_DIR)
    assert (made.model_path, made.tokenizer_dir) == (FILES.model_path, FILES.tokenizer_dir)
    assert made.env == {"OMP_NUM_THREADS": "2"}
    assert made.secret_env == {"KEY": "SERVETUNE_API_KEY"}


def test_gpus_may_be_named_by_numbers() -> None:
    config = make_config(hardware={"name": "box", "gpu_count": 2, "gpu_ids": [4, "GPU-1"]})
    assert config.hardware.gpu_ids == ("4", "GPU-1")


@pytest.mark.parametrize(
    ("vendor", "variables"),
    [
        ("nvidia", {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "4,5"}),
        ("amd", {"HIP_VISIBLE_DEVICES": "4,5"}),
    ],
)
def test_a_process_sees_its_gpus_only(vendor: str, variables: dict[str, str]) -> None:
    made = planned(make_config(hardware={"name": "box", "gpu_count": 2, "vendor": vendor}))
    assert plan.with_slots(made, plan.Slots(gpu_ids=("4", "5"))).env == {**made.env, **variables}
    assert plan.with_slots(made, plan.Slots()).env == made.env


def test_the_runtime_s_own_variables_win() -> None:
    made = replace(planned(make_config()), env={"CUDA_VISIBLE_DEVICES": "7"})
    assert plan.with_slots(made, plan.Slots(gpu_ids=("4",))).env["CUDA_VISIBLE_DEVICES"] == "7"
