"""What rules and knobs cite is there: files, lines and variables, in the released packages where they are installed.

SERVETUNE_TEST_VLLM and SERVETUNE_TEST_SGLANG name the interpreters of their environments.
"""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from pipeline.core.places import CONF, PACKAGE

pytestmark = pytest.mark.live

VARIABLES = {"vllm": "SERVETUNE_TEST_VLLM", "sglang": "SERVETUNE_TEST_SGLANG"}
INTERPRETERS = {engine: os.environ.get(name) for engine, name in VARIABLES.items()}
CITED = re.compile(r"(?:(\d+\.\d+\.\d+\S*?),? )?(?:and \S+ )?([\w./-]+\.py)(?::(\d+)(?:-(\d+))?)?")


@cache
def package(engine: str) -> tuple[Path, str]:
    """Where the engine's package is, and its version without a build's suffix."""
    python = INTERPRETERS[engine]
    if not python:
        pytest.skip(f"{VARIABLES[engine]} names no interpreter")
    site = next(Path(python).parent.parent.glob("lib/python3*/site-packages"))
    info = next(site.glob(f"{engine}-*.dist-info"), None)
    if info is None:
        pytest.skip(f"{engine} is not installed for {python}")
    return site / engine, info.name.removesuffix(".dist-info").split("-")[1].partition("+")[0]


def sources(engine: str) -> Iterator[tuple[str, str]]:
    """Each rule of an engine, and each knob of its spaces, with its source."""
    for rule in yaml.safe_load((PACKAGE / "engines" / "rules" / f"{engine}.yaml").read_text()):
        yield rule["id"], rule["source"]
    for path in sorted((CONF / "space" / engine).glob("*.yaml")):
        for knob, entry in yaml.safe_load(path.read_text())["knobs"].items():
            yield f"{path.stem}: {knob}", entry["source"] if entry else ""


@pytest.mark.parametrize("engine", INTERPRETERS)
def test_a_cited_file_is_in_the_package(engine: str) -> None:
    """With the version that is installed; a file that only another version has is not looked for."""
    root, version = package(engine)
    missing, seen = [], 0
    for name, source in sources(engine):
        cited = ""
        for found in CITED.finditer(source):
            cited = found[1] or cited
            if cited != version or not source.startswith(engine):
                continue
            seen += 1
            path = root / found[2]
            lines = path.read_text("utf-8").count("\n") if path.is_file() else -1
            if lines < int(found[4] or found[3] or 0):
                missing.append(f"{name}: {found[0]}")
    assert seen
    assert missing == []


@pytest.mark.parametrize("engine", INTERPRETERS)
def test_a_variable_that_is_a_knob_is_read_by_the_engine(engine: str) -> None:
    root, _ = package(engine)
    knobs = yaml.safe_load((CONF / "runtime" / f"{engine}.yaml").read_text())["runtime"]["knobs"]
    named = {item["env"] for item in knobs.values() if item["kind"] == "env"}
    own = {name for name in named if name.startswith(f"{engine.upper()}_")}
    assert own
    files = (root / "envs.py", root / "srt" / "environ.py", *(root / "srt" / "utils").glob("*.py"))
    text = "\n".join(path.read_text("utf-8") for path in files if path.is_file())
    assert {name for name in own if name not in text} == set()
