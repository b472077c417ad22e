"""Whether `best/serve.sh` opens anything without a key: with the stand-in vLLM, by the check that the real one gets."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from fakes.tiny_hf import write_tiny_hf
from parts.handed_over import served
from pipeline.config.command_line import composed, to_config
from pipeline.core.places import CONF
from pipeline.report import best
from support.places import FAKES
from support.records import make_record

DEVELOPMENT = {"VLLM_SERVER_DEV_MODE": "1"}
OPENED = {"POST /reset_prefix_cache", "GET /server_info"}  # that the stand-in has of them


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="st-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize(("env", "opened"), [({}, set()), (DEVELOPMENT, OPENED)], ids=["as-it-is", "in-development"])
def test_what_is_handed_over_is_closed_without_its_key(
    env: dict[str, str], opened: set[str], tmp_path: Path, short: Path
) -> None:
    """In development mode the check does find what is open."""
    overrides = ("runtime=vllm", "model=local", f"model.path={write_tiny_hf(tmp_path)}", "hardware=h100")
    with initialize_config_dir(str(CONF)):
        made = make_record(config=to_config(composed(list(overrides))), overrides=overrides)
    best.write(tmp_path / "best", made, [made])
    standin = {"PYTHONPATH": str(FAKES / "site"), "STANDIN_GPUS": "1", **env}
    with served(tmp_path / "best" / "serve.sh", short, timeout_s=60, env=standin) as up:
        assert up.open_paths().keys() == opened
        assert up.ask("GET /v1/models", key=up.key) == 200
