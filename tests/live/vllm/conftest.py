"""The real vLLM on a tiny model: four starts of it in all, because each takes long."""

from pathlib import Path

import pytest

from parts import engine_env
from support.engine_sweeps import Engine


@pytest.fixture(scope="session")
def vllm() -> Engine:
    """vLLM for CPUs, small and eager."""
    return Engine(name="vllm", python=engine_env.python(make="CI" in engine_env.SURROUNDINGS), model=engine_env.model())


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path is short: vLLM makes sockets in TMPDIR."""
    return tmp_path_factory.mktemp("s")
