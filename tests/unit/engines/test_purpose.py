"""What an engine gets for being measured only, and where."""

from typing import Any

import pytest
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.engines import purpose

DEV = "VLLM_SERVER_DEV_MODE"


def config(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF)):
        return to_config(composed(list(overrides)))


@pytest.mark.parametrize(
    ("overrides", "is_open"),
    [
        ([], True),
        (["backend=docker"], True),
        (["backend=ome"], False),
        (["backend.host=0.0.0.0"], False),
        (["backend=docker", "backend.host=192.168.1.7"], False),
        (["backend.host=localhost"], True),
    ],
    ids=["local", "docker", "ome", "every-address", "docker-in-the-network", "localhost"],
)
def test_development_mode_is_for_loopback(overrides: list[str], *, is_open: bool) -> None:
    made = config("runtime=vllm", *overrides)
    assert (DEV in purpose.environment(made)) is is_open
    assert [name for name, _ in purpose.withheld(made)] == ([f"{DEV}=1"] if is_open else [])


def test_what_the_user_sets_wins() -> None:
    made = config("runtime=vllm", f"+runtime.env.{DEV}='0'")
    assert purpose.environment(made) == {DEV: "0"}


@pytest.mark.parametrize(
    ("overrides", "withheld"),
    [
        (["runtime=vllm"], {f"{DEV}=1": purpose.DEVELOPMENT}),
        (["runtime=vllm", f"+runtime.env.{DEV}='1'"], {f"{DEV}=1": purpose.DEVELOPMENT}),
        (["runtime=vllm", "backend=ome", f"+runtime.env.{DEV}='1'"], {f"{DEV}=1": purpose.DEVELOPMENT}),
        (["runtime=sglang", "backend=ome"], {"--random-seed 42 --enable-metrics": purpose.MEASURED}),
        (
            ["runtime=llamacpp"],
            {"--cache-ram 0": purpose.MEASURED, "--slot-save-path {run_dir}": purpose.DEVELOPMENT},
        ),
        (["runtime=sglang", "+runtime.measuring.env.A='1'", "+runtime.env.B='2'"], {"A=1": purpose.MEASURED}),
    ],
    ids=["vllm", "by-the-user", "by-the-user-in-a-cluster", "sglang", "llamacpp", "a-variable"],
)
def test_what_is_withheld_is_told(overrides: list[str], withheld: dict[str, Any]) -> None:
    made = config(*overrides)
    assert withheld.items() <= dict(purpose.withheld(made)).items()
    over = purpose.handed_over(made)
    assert list(purpose.withheld(over)) == []
    assert purpose.extras(over) == type(purpose.extras(over))()
    assert set(over.runtime.env) == set(made.runtime.env) - {DEV}


def test_flags_may_be_given_as_numbers() -> None:
    made = config("runtime=sglang", "runtime.measuring.args=[--random-seed,7]")
    assert purpose.extras(made).args == ("--random-seed", "7")


def test_no_secret_is_taken_for_measuring() -> None:
    with pytest.raises(ConfigError, match=r"instead of runtime\.measuring\.env\.MY_API_KEY"):
        config("runtime=sglang", "+runtime.measuring.env.MY_API_KEY='1'")
