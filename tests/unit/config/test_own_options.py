"""Options of the user's own: what their files leave out has a default, and can be set on the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core import schema
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.plan import Assets
from pipeline.core.schema import Config
from pipeline.engines import server_command

GROUPS: dict[str, Any] = {
    name: getattr(schema, name.title())
    for name in ("runtime", "model", "backend", "traffic", "hardware", "slo", "quality", "tracker")
}
# The least that a file of each group says
LEAST = {
    "runtime": """# @package _global_
runtime:
  name: mine
  command: ["{python}", serve, "{model}", --port, "{port}"]
  api_backend: openai
  server_engine: vLLM
  health: {path: /health, timeout_s: 5, interval_s: 1}
  knobs: {}
""",
    "model": "name: mine\nserved_name: mine\nrepo: me/mine\n",
    "backend": "name: mine\ntarget: pipeline.backends.local.Local\n",
    "traffic": "name: mine\nscenarios: ['D(8,4)']\nconcurrencies: [1]\nmin_requests: 1\nrequests_per_user: 1\n"
    "max_time_per_level_s: 9\nwarmup_requests: 0\nseed: 0\n",
    "hardware": "name: mine\ngpu_count: 0\n",
    "slo": "name: mine\nattainment: 0.9\nmax_error_rate: 0.1\n",
    "quality": "name: mine\nkind: none\n",
    "tracker": "name: mine\ntarget: pipeline.trackers.none.Off\ntimeout_s: 5\n",
}
SETTINGS = {  # of a value that is not the default
    "runtime.python": "/engine/bin/python",
    "runtime.extra_args": "[--verbose]",
    "runtime.stop_grace_s": "3",
    "runtime.startup_s": "7",
    "runtime.rules": "[common]",
    "runtime.settings_path": "/props",
    "model.path": "/models/mine",
    "model.tokenizer": "/models/other",
    "backend.host": "127.0.0.2",
    "backend.deploy_s": "5",
    "traffic.all_levels": "true",
    "hardware.vendor": "nvidia",
    "hardware.gpu_memory_gib": "24",
    "slo.ttft_s": "0.5",
    "quality.min_agreement": "0.8",
    "tracker.project": "mine",
}


def optional(group: str) -> dict[str, Any]:
    """The keys of a group that a file may leave out, with their defaults."""
    known = GROUPS[group].__pydantic_fields__.items()
    return {name: one.get_default(call_default_factory=True) for name, one in known if not one.is_required()}


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Config]:
    """The configuration of a command that uses an own option of every group."""
    for group, text in LEAST.items():
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text(text)

    def made(*overrides: str) -> Config:
        chosen = [f"{group}=mine" for group in LEAST]
        with initialize_config_dir(str(CONF)):
            return to_config(composed([f"hydra.searchpath=[file://{tmp_path}]", *chosen, *overrides]))

    return made


def test_what_a_file_leaves_out_has_the_schemas_default(own: Callable[..., Config]) -> None:
    made = own()
    for group in GROUPS:
        left_out = {name: default for name, default in optional(group).items() if f"\n{name}:" not in LEAST[group]}
        for name, default in left_out.items():
            assert getattr(getattr(made, group), name) == default, f"{group}.{name}"


@pytest.mark.parametrize("key", SETTINGS)
def test_what_a_file_leaves_out_can_be_set(own: Callable[..., Config], key: str) -> None:
    group, _, name = key.partition(".")
    seen, unset = (getattr(getattr(each, group), name) for each in (own(f"{key}={SETTINGS[key]}"), own()))
    assert seen != unset


def test_an_environment_variable_can_be_added(own: Callable[..., Config]) -> None:
    assert own("+runtime.env.OMP_NUM_THREADS='2'").runtime.env == {"OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize("group", GROUPS)
def test_every_key_with_a_default_stands_in_the_base_configuration(group: str) -> None:
    base = yaml.safe_load((CONF / "config.yaml").read_text())[group]
    assert base.keys() == optional(group).keys()


FILES = Assets(model_path=Path("/models/mine"), tokenizer_dir=Path("/models/mine"))


@pytest.mark.parametrize(
    ("given", "name"),
    [((), "mine"), (("runtime.request_name='{model}'",), "/models/mine"), (("model.served_name=other",), "other")],
    ids=["served name", "path", "another served name"],
)
def test_requests_name_the_model_as_the_engine_wants_it(
    own: Callable[..., Config], given: tuple[str, ...], name: str
) -> None:
    assert server_command.request_name(own(*given), FILES, Path("/runs/0")) == name


def test_an_unknown_placeholder_of_the_name_is_refused(own: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match=r"runtime.request_name: unknown placeholder .*\{served_name\}"):
        own("runtime.request_name='{modell}'")
