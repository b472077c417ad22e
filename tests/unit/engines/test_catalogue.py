"""The catalogues of flags, and that every runtime's knobs are flags of the versions they claim."""

from dataclasses import replace
from itertools import pairwise

import pytest
import yaml
from hydra import initialize_config_dir
from packaging.version import Version

from pipeline.config.command_line import composed, to_config
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema import Knob, is_of
from pipeline.core.values import parse
from pipeline.engines import catalogue
from pipeline.engines.catalogue import Catalogue, Flag

FOLDER = catalogue.FOLDER
ENGINES = sorted(path.name for path in FOLDER.iterdir() if catalogue.versions(path.name))
FITS = {
    "int": {"int"},
    "float": {"float"},
    "bool": {"bool"},
    "choice": {"text", "int"},
    "text": {"text", "json"},
    "json": {"json"},
    "list": {"int", "float", "text"},
}
RELEASES = [
    pytest.param(engine, version, id=f"{engine}-{version}")
    for engine in ENGINES
    for version in catalogue.versions(engine)
]


def knobs(engine: str) -> dict[str, Knob]:
    path = CONF / "runtime" / f"{engine}.yaml"
    declared = yaml.safe_load(path.read_text())["runtime"]["knobs"] if path.exists() else {}
    return {name: parse(Knob, item) for name, item in declared.items()}


KNOBS = [
    pytest.param(engine, knob, id=f"{engine}-{name}")
    for engine in ENGINES
    for name, knob in knobs(engine).items()
    if knob.has_flag
]


def having(engine: str, knob: Knob) -> dict[str, Flag | None]:
    """The flag of the knob in each version, None where it is none."""
    every = (catalogue.load(engine, version) for version in catalogue.versions(engine))
    return {found.version: found.find(knob.spelled(found.version)) for found in every}


@pytest.mark.parametrize(("engine", "version"), RELEASES)
def test_a_catalogue_is_of_the_engine_and_version_it_is_filed_under(engine: str, version: str) -> None:
    found = catalogue.load(engine, version)
    assert (found.engine, found.version) == (engine, version)
    assert "sha256:" in found.source


@pytest.mark.parametrize(("engine", "version"), RELEASES)
def test_no_spelling_is_of_two_flags(engine: str, version: str) -> None:
    found = catalogue.load(engine, version)
    spelled = [name for flag in found.flags for name in (*flag.names, flag.off) if name]
    assert len(set(spelled)) == len(spelled)


@pytest.mark.parametrize(("engine", "knob"), KNOBS)
def test_a_knob_claims_the_versions_that_have_its_flag_and_no_others(engine: str, knob: Knob) -> None:
    claimed = [version for version in catalogue.versions(engine) if is_of(knob.versions, version)]
    there = [version for version, flag in having(engine, knob).items() if flag and not flag.deprecated]
    assert claimed == there


@pytest.mark.parametrize(("engine", "knob"), KNOBS)
def test_a_knob_is_of_the_kind_of_its_flag_in_every_version(engine: str, knob: Knob) -> None:
    flags = [flag for flag in having(engine, knob).values() if flag]
    assert flags
    assert {flag.kind for flag in flags} <= FITS[knob.kind]
    assert {flag.many for flag in flags} == {knob.kind == "list"}
    assert knob.false_flag is None or {flag.off for flag in flags} == {knob.false_flag}


@pytest.mark.parametrize(("engine", "knob"), KNOBS)
def test_every_version_takes_some_choice_of_a_knob_and_every_choice_is_of_some(engine: str, knob: Knob) -> None:
    flags = [flag for flag in having(engine, knob).values() if flag]
    assert all(not knob.choices or not flag.choices or set(knob.choices) & set(flag.choices) for flag in flags)
    assert set(knob.choices) <= {choice for flag in flags for choice in flag.choices or knob.choices}


@pytest.mark.parametrize("engine", ENGINES)
def test_versions_come_oldest_first(engine: str) -> None:
    assert all(Version(older) < Version(newer) for older, newer in pairwise(catalogue.versions(engine)))


def test_an_engine_without_catalogues_has_no_versions() -> None:
    assert catalogue.versions("llamacpp") == ()


def test_a_version_without_a_catalogue_is_told_how_to_get_one() -> None:
    with pytest.raises(
        ConfigError, match=r"nearest known version: 0\.5\.1\..* python -m pipeline\.catalogues sglang==0\.1"
    ):
        catalogue.load("sglang", "0.1")


@pytest.mark.parametrize(
    ("version", "spelling", "meant"),
    [
        pytest.param(
            "0.5.23",
            "--cuda-graph-max-bs",
            {"--cuda-graph-max-bs-decode", "--cuda-graph-max-bs-prefill"},
            id="ambiguous",
        ),
        pytest.param("0.5.10.post1", "--cuda-graph-max-bs", {"--cuda-graph-max-bs"}, id="exact"),
        pytest.param("0.5.23", "--mem-frac", {"--mem-fraction-static"}, id="beginning"),
        pytest.param("0.5.23", "--tp", {"--tp-size"}, id="shortest"),
        pytest.param("0.5.23", "--ep", {"--ep-size"}, id="alias"),
        pytest.param("0.5.23", "--memory", set(), id="unknown"),
    ],
)
def test_a_spelling_means_what_the_parser_makes_of_it(version: str, spelling: str, meant: set[str]) -> None:
    assert {flag.names[0] for flag in catalogue.load("sglang", version).meant(spelling)} == meant


def test_without_abbreviations_only_whole_flags_mean_something() -> None:
    flag = Flag(names=("--model-path",), dest="model_path", kind="text")
    found = Catalogue(engine="e", version="1", source="s", abbreviations=False, flags=(flag,))
    assert found.meant("--model") == ()
    assert found.meant("--model-path") == (flag,)


@pytest.mark.parametrize(
    ("spelling", "default"),
    [
        ("--max-prefill-tokens", 16384),
        ("--schedule-policy", "fcfs"),
        ("--enable-mixed-chunk", False),
        ("--dtype", "auto"),
    ],
)
def test_a_default_is_the_parsers(spelling: str, default: object) -> None:
    flag = catalogue.load("sglang", "0.5.23").find(spelling)
    assert flag is not None
    assert flag.default == default


@pytest.mark.parametrize(
    ("version", "default"), [("0.19.1", 0.9), ("0.20.0", 0.92), ("0.33.0", 0.92), ("0.19.9", 0.92), (None, None)]
)
def test_a_default_is_the_versions_own_or_the_nearest_ones(version: str | None, default: float | None) -> None:
    with initialize_config_dir(str(CONF)):
        runtime = to_config(composed(["runtime=vllm", "model.path=/m"])).runtime
    assert catalogue.default(replace(runtime, version=version), "gpu_memory_utilization") == default
