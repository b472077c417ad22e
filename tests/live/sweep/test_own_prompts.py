"""A sweep over the user's own prompts with the real engine and genai-bench: one file, from first to last."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cli import Result, command
from support.places import ROOT, TESTS

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
PROMPTS = TESTS / "fakes" / "prompts" / "chat.jsonl"


@pytest.fixture(autouse=True)
def parts(needs: Callable[..., None]) -> None:
    needs("genai_bench", "xllamacpp", "gguf", "tokenizers")


def sweep(folder: Path, gguf: Path, *overrides: str) -> Result:
    argv = [
        *command(sweep=True),
        "model=gguf",
        f"model.path={gguf}",
        "tracker=none",
        "traffic=dataset",
        "traffic.path=prompts.jsonl",
        "traffic.concurrencies=[1,2]",
        "traffic.min_requests=4",
        "traffic.requests_per_user=2",
        "hydra.sweeper.confirm=0",
        f"hydra.sweep.dir={folder / 'out'}",
        *overrides,
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False)
    return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder / "out")


def test_all_trials_send_the_file_that_the_sweep_began_with(tmp_path: Path, tiny_gguf: Path) -> None:
    file = Path(shutil.copy(PROMPTS, tmp_path / "prompts.jsonl"))
    first = sweep(tmp_path, tiny_gguf, "n_parallel=null,2", "traffic.cache=warm")
    assert first.code == 0, first.err
    assert [record.status for record in first.records] == ["ok", "ok"]
    for record in first.records:
        found = record.config.traffic.dataset
        assert found is not None
        assert found.prompts == 48
        assert f"traffic.sha256={found.sha256[:12]}" in record.overrides
        for level in record.levels:
            assert level.metrics is not None
            assert level.metrics.output_tokens_asked_mean is not None
            assert level.metrics.output_tokens_mean <= level.metrics.output_tokens_asked_mean
            assert "then warmed with 4 requests" in level.cache_reset
    written = (path for path in first.folder.rglob("*") if path.is_file())
    assert not [path for path in written if b"there is little to say" in path.read_bytes()]  # prompts stay the user's
    file.write_text(file.read_text().replace("poet", "painter"))
    changed = sweep(tmp_path, tiny_gguf, "n_parallel=null,2", "traffic.cache=warm")
    assert changed.code == 2
    assert "This folder holds another search. It was started with traffic.sha256=" in changed.err
