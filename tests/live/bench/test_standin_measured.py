"""One level measured by the real resident genai-bench against each stand-in: what is asked is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir

from fakes.stand_in import serving
from fakes.tiny_hf import write_tiny_hf
from pipeline.bench import Job, command, results
from pipeline.bench.resident import Resident
from pipeline.config import command_line, planning
from pipeline.core.places import CONF
from pipeline.core.plan import Assets
from support.measuring import result, run

pytestmark = pytest.mark.live


def job(model: Path, run_dir: Path, url: str, api_backend: str) -> Job:
    """The first level of a default trial on `model`, asked for with one of genai-bench's backends."""
    given = ["model=gguf", "model.path=none", "model.served_name=tiny", f"runtime.api_backend={api_backend}"]
    with initialize_config_dir(str(CONF)):
        tree = command_line.composed([*given, "traffic.scenarios=['D(48,16)']"])
    config = command_line.to_config(tree)
    files = Assets(model_path=model, tokenizer_dir=model)
    made = planning.make(config, files, sweep_id="s", number=0, run_dir=run_dir)
    return command.job(config, made, made.levels[0], url=url, label="test-standin")


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_a_level_holds_the_tokens_that_were_asked_for(engine: str, resident: Resident, tmp_path: Path) -> None:
    model = write_tiny_hf(tmp_path / "model")
    with serving(engine, tmp_path, "--served-model-name", "tiny", model=model, STANDIN_SPEED="1") as running:
        asked = job(model, tmp_path / "run", running.url, engine)
        outcome = run(resident, asked)
        assert outcome.error is None, (asked.folder / command.CONSOLE).read_text()
    requests: list[dict[str, Any]] = result(asked)["individual_request_metrics"]
    assert results.result_file(asked.folder).exists()
    assert len(requests) >= 8
    assert {request["num_output_tokens"] for request in requests} == {16}
    # One more: genai-bench puts a space before its last line and does not count it
    assert {request["num_input_tokens"] for request in requests} <= {48, 49}
    assert {request["error_code"] for request in requests} == {None}
    assert any(request["tpot"] for request in requests)  # None where a busy client read a whole answer at once
