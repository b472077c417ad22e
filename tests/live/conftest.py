"""The real parts: skipped with a reason where one is not installed, a failure where CI says that all are there."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from parts import lacking
from parts.llama import Server, serving
from pipeline.bench.resident import Resident
from support.measuring import Make, Planned, planned

Needs = Callable[..., None]


@pytest.fixture(scope="session")
def needs() -> Needs:
    """Call it with the names of the modules that a test cannot do without."""

    def check(*modules: str) -> None:
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            lacking(f"not installed: {', '.join(missing)} (make setup)")

    return check


@pytest.fixture(scope="module")
def server(needs: Needs, tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """llama.cpp's real server on the tiny model, shared by the tests of a file."""
    needs("xllamacpp")
    folder = tmp_path_factory.mktemp("server")
    with serving(tiny_gguf, folder, "--slot-save-path", str(folder), "--cache-ram", "0", "--parallel", "4") as running:
        yield running


@pytest.fixture(scope="session")
def resident(needs: Needs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resident]:
    """One driver for all tests that leave it alive: its import takes seconds."""
    needs("genai_bench", "transformers", "gguf", "tokenizers")
    runner = Resident(tmp_path_factory.mktemp("resident") / "runner.log")
    runner.start()
    yield runner
    runner.close()


@pytest.fixture
def own_resident(needs: Needs, tmp_path: Path) -> Iterator[Resident]:
    """A driver that the test may break."""
    needs("genai_bench", "transformers", "gguf", "tokenizers")
    runner = Resident(tmp_path / "runner.log")
    yield runner
    runner.close()


@pytest.fixture
def make(tiny_gguf: Path, tmp_path: Path) -> Make:
    """Makes levels in run directories below tmp_path."""

    def level(url: str, name: str = "run", **changes: Any) -> Planned:
        return planned(tiny_gguf, tmp_path / name, url, **changes)

    return level
