"""Every file under conf/ composes, parses, and says of the engine what the engine says of itself."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir

from pipeline import backends, trackers
from pipeline.config import command_line, expand
from pipeline.config.command_line import composed
from pipeline.core.places import CONF
from pipeline.core.schema import Config, Knob
from pipeline.core.values import parse
from pipeline.engines.runtimes import llamacpp
from pipeline.engines.server_command import flags
from pipeline.trial import preflight
from support import genai
from support.places import TESTS

GROUPS = ("runtime", "model", "backend", "traffic", "hardware", "slo", "quality", "tracker")
# Values that a file leaves to the user
NEEDED = {
    "model/gguf": ["model.path=/m.gguf"],
    "model/local": ["model.path=/models/mine"],
    "model/served": ["backend=endpoint", "backend.url=http://localhost:8000"],
    "backend/endpoint": ["backend.url=http://localhost:8000"],
    "runtime/openai": ["backend=endpoint", "backend.url=http://localhost:8000"],
    "traffic/dataset": [f"traffic.path={TESTS}/fakes/prompts/chat.jsonl"],
    "backend/ome": ["model=qwen3_8b"],  # the default, a package of Python, is in no cluster
}
OPTIONS = [f"{group}/{path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
EXPERIMENTS = [path.stem for path in sorted((CONF / "experiment").glob("*.yaml"))]
SWEEPERS = [path.stem for path in sorted((CONF / "hydra" / "sweeper").glob("*.yaml"))]
OBJECTIVES = {"nsga2": ["objective=[output_tokens_per_s_per_gpu,ttft_p95_s]"]}
RUNTIMES = [*sorted((CONF / "runtime").glob("*.yaml")), *sorted((TESTS / "fakes" / "conf" / "runtime").glob("*.yaml"))]


def knob(name: str) -> Knob:
    """A knob of llama.cpp."""
    return parse(Knob, yaml.safe_load((CONF / "runtime" / "llamacpp.yaml").read_text())["runtime"]["knobs"][name])


KNOBS = {name: knob(name) for name in yaml.safe_load((CONF / "runtime/llamacpp.yaml").read_text())["runtime"]["knobs"]}


@pytest.fixture
def conf() -> Iterator[None]:
    """Hydra, told where conf/ is."""
    with initialize_config_dir(str(CONF)):
        yield


@pytest.fixture(scope="module")
def defaults() -> Config:
    """The configuration of `python -m pipeline`."""
    with initialize_config_dir(str(CONF)):
        return config()


def config(*overrides: str) -> Config:
    return command_line.to_config(composed(overrides))


def test_the_defaults_are_a_baseline(defaults: Config) -> None:
    assert defaults.is_baseline


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_parses_and_is_named_as_its_file(conf: None, option: str) -> None:
    group, _, name = option.partition("/")
    assert getattr(config(f"{group}={name}", *NEEDED.get(option, [])), group).name == name


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_says_first_what_it_is_for(option: str) -> None:
    lines = (CONF / f"{option}.yaml").read_text().splitlines()
    assert any(re.match(r"# [^@ ]", line) for line in lines[:2])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_a_sweep_of_which_every_trial_would_start(name: str) -> None:
    overrides = [f"experiment={name}"]
    trials = list(expand.trials(overrides, is_sweep=True))
    assert len(trials) == command_line.check(overrides, is_sweep=True).total
    assert len(trials) > 1
    assert {preflight.foresee(trial.config).word for trial in trials} <= {"ok", "warned"}


def test_the_glm_study_is_its_ten_trials_after_the_baseline() -> None:
    baseline, *trials = expand.trials(["experiment=glm46_h20"], is_sweep=True)
    assert baseline.overrides == ("attention_backend=null", "page_size=null")
    assert {(t.config.knobs["attention_backend"], t.config.knobs["page_size"]) for t in trials} == {
        (backend, size) for backend in ("flashinfer", "fa3") for size in (32, 64, 128, 256, 512)
    }
    assert all(trial.config.gpus == 8 for trial in trials)


@pytest.mark.parametrize("name", SWEEPERS)
def test_a_sweeper_takes_a_search(name: str) -> None:
    search = [f"hydra/sweeper={name}", "n_threads=1,2,4", *OBJECTIVES.get(name, [])]
    found = command_line.check(search, is_sweep=True)
    assert found.uses_optuna
    assert found.swept == ("n_threads",)
    assert found.total == ({"grid": 3, "tuner": 4}.get(name, 12))


def leaves(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Of a tree, by their dotted names."""
    found: dict[str, Any] = {}
    for name, item in tree.items():
        found |= leaves(item, f"{above}{name}.") if isinstance(item, dict) else {f"{above}{name}": item}
    return found


@pytest.mark.parametrize("path", RUNTIMES, ids=lambda path: path.stem)
def test_every_knob_of_a_runtime_stands_at_the_root_with_null(path: Path) -> None:
    data = yaml.safe_load(path.read_text())
    declared = data.pop("runtime")["knobs"]
    data.pop("defaults", None)
    assert set(leaves(data)) == {
        name for name in declared if not any(other.startswith(f"{name}.") for other in declared)
    }
    assert all(setting is None for setting in leaves(data).values())


@pytest.mark.parametrize("path", RUNTIMES, ids=lambda path: path.stem)
def test_a_knob_is_described_in_full(path: Path) -> None:
    knobs = yaml.safe_load(path.read_text())["runtime"]["knobs"]
    for name, item in knobs.items():
        found = parse(Knob, item)
        assert found.flag.startswith("--") == (found.kind != "env"), name
        assert bool(found.env) == (found.kind == "env"), name
        assert found.kind == "env" or bool(found.choices) == (found.kind == "choice"), name
        assert found.key is None or name.endswith(f".{found.key}"), name
        assert found.key is None or knobs[name.removesuffix(f".{found.key}")]["kind"] == "json", name
        assert found.help, name


def test_no_two_knobs_share_a_flag() -> None:
    spelled = [knob.flag for knob in KNOBS.values()] + [k.false_flag for k in KNOBS.values() if k.false_flag]
    assert len(set(spelled)) == len(spelled)


@pytest.mark.parametrize("path", RUNTIMES, ids=lambda path: path.stem)
def test_genai_bench_knows_the_runtimes_engine(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["runtime"]["server_engine"] in genai.choices("--server-engine")


@pytest.mark.parametrize("path", sorted((CONF / "hardware").glob("*.yaml")), ids=lambda path: path.stem)
def test_genai_bench_knows_the_hardware(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["gpu_type"] in (None, *genai.choices("--server-gpu-type"))


def _settings(name: str) -> list[Any]:
    found = KNOBS[name]
    if found.kind == "bool":
        return [True, False]
    return list(found.choices) or [int(found.minimum or 0), int(found.maximum or 4)]


SETTINGS = [pytest.param(name, pick, id=f"{name}-{pick}") for name in KNOBS for pick in _settings(name)]


@pytest.mark.parametrize(("name", "pick"), SETTINGS)
def test_llama_cpp_takes_every_knob(defaults: Config, name: str, pick: Any) -> None:
    made = flags(replace(defaults, knobs={name: pick}))
    assert made[0] in {KNOBS[name].flag, KNOBS[name].false_flag}
    given = vars(llamacpp.arguments().parse_args(["--model=m", "--alias=a", "--port=1", *made]))
    plain = vars(llamacpp.arguments().parse_args(["--model=m", "--alias=a", "--port=1"]))
    changed = {key: item for key, item in given.items() if item != plain[key]}
    assert list(changed.values()) == [pick]


def seen_by_llama_cpp(name: str, params: Any) -> Any:
    """The setting as it stands in xllamacpp's parameters."""
    flag = KNOBS[name].flag.removeprefix("--")
    if flag == "threads-batch":
        return params.cpuparams_batch.n_threads
    if flag in llamacpp.CPU:
        return int(getattr(params.cpuparams, llamacpp.CPU[flag]))
    if flag == "flash-attn":
        return {"ENABLED": "on", "DISABLED": "off", "AUTO": "auto"}[params.flash_attn_type.name.rsplit("_", 1)[1]]
    if flag.startswith("cache-type"):
        return getattr(params, flag.replace("-", "_")).name.removeprefix("GGML_TYPE_").lower()
    return getattr(params, (llamacpp.INTS | llamacpp.BOOLS)[flag])


@pytest.mark.parametrize(("name", "pick"), SETTINGS)
def test_a_setting_reaches_llama_cpp(defaults: Config, name: str, pick: Any) -> None:
    pytest.importorskip("xllamacpp")
    made = flags(replace(defaults, knobs={name: pick}))
    options = llamacpp.arguments().parse_args(["--model=m", "--alias=a", "--port=1", *made])
    assert seen_by_llama_cpp(name, llamacpp.parameters(options)) == pick


@pytest.mark.parametrize("path", sorted((CONF / "backend").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_backends_target_exists(path: Path) -> None:
    made = backends.load(yaml.safe_load(path.read_text())["target"])
    assert callable(made.teardown)


@pytest.mark.parametrize("path", sorted((CONF / "tracker").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_trackers_target_exists(path: Path) -> None:
    made = trackers.load(yaml.safe_load(path.read_text())["target"])
    assert callable(made.publish)
