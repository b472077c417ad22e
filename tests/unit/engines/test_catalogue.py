"""The catalogues of flags, and that every runtime's knobs are flags of the versions they claim."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema import Knob, is_of
from pipeline.core.values import parse
from pipeline.engines import catalogue
from pipeline.engines.catalogue import Catalogue, Flag

FOLDER = catalogue.FOLDER
FILES = sorted(FOLDER.glob("*/*.json"))
ENGINES = sorted({path.parent.name for path in FILES})
FITS = {"int": {"int"}, "float": {"float"}, "bool": {"bool"}, "choice": {"text", "int"}, "text": {"text", "json"}}


def knobs(engine: str) -> dict[str, Knob]:
    path = CONF / "runtime" / f"{engine}.yaml"
    declared = yaml.safe_load(path.read_text())["runtime"]["knobs"] if path.exists() else {}
    return {name: parse(Knob, item) for name, item in declared.items()}


def claims() -> Iterator[Any]:
    """Every knob with every version it claims to be in."""
    for engine in ENGINES:
        for name, knob in knobs(engine).items():
            for version in catalogue.versions(engine):
                if is_of(knob.versions, version):
                    yield pytest.param(knob, catalogue.load(engine, version), id=f"{engine}-{version}-{name}")


KNOBS = [
    pytest.param(engine, knob, id=f"{engine}-{name}") for engine in ENGINES for name, knob in knobs(engine).items()
]
CLAIMS = list(claims())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_catalogue_is_of_the_engine_and_version_it_is_filed_under(path: Path) -> None:
    found = catalogue.load(path.parent.name, path.stem)
    assert (found.engine, found.version) == (path.parent.name, path.stem)
    assert "sha256:" in found.source


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_spelling_is_of_two_flags(path: Path) -> None:
    found = catalogue.load(path.parent.name, path.stem)
    spelled = [name for flag in found.flags for name in (*flag.names, flag.off) if name]
    assert len(set(spelled)) == len(spelled)


@pytest.mark.parametrize(("knob", "found"), CLAIMS)
def test_a_knob_is_a_flag_of_every_version_it_claims(knob: Knob, found: Catalogue) -> None:
    flag = found.find(knob.spelled(found.version))
    assert flag is not None
    assert flag.kind in FITS[knob.kind]
    assert not flag.many
    assert knob.false_flag in {None, flag.off}


@pytest.mark.parametrize(("knob", "found"), CLAIMS)
def test_a_version_takes_some_choice_of_a_knob(knob: Knob, found: Catalogue) -> None:
    flag = found.find(knob.spelled(found.version))
    assert flag is not None
    assert not knob.choices or not flag.choices or set(knob.choices) & set(flag.choices)


@pytest.mark.parametrize(("engine", "knob"), KNOBS)
def test_every_choice_is_one_of_some_version(engine: str, knob: Knob) -> None:
    claimed = [version for version in catalogue.versions(engine) if is_of(knob.versions, version)]
    flags = [catalogue.load(engine, version).find(knob.spelled(version)) for version in claimed]
    assert flags
    taken = {choice for flag in flags if flag for choice in flag.choices or knob.choices}
    assert set(knob.choices) <= taken


@pytest.mark.parametrize("engine", ENGINES)
def test_versions_come_oldest_first(engine: str) -> None:
    assert all(Version(older) < Version(newer) for older, newer in pairwise(catalogue.versions(engine)))


def test_an_engine_without_catalogues_has_no_versions() -> None:
    assert catalogue.versions("llamacpp") == ()


def test_a_version_without_a_catalogue_is_told_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match=r"only for .*0\.5\.23.* python -m pipeline\.catalogues sglang==0\.1"):
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
