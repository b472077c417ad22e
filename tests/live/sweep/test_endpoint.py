"""`backend=endpoint` with the real load generator: llama.cpp's server of somebody else, and a server behind TLS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.openai_server import certified
from fakes.openai_server import serving as standing_in
from parts.llama import serving
from pipeline.backends import lease
from support.cli import Result
from support.places import ROOT

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

KEY = "hunter2-hunter2-hunter2"
SMALL = [
    "backend=endpoint",
    "backend.api_key_env=TEAM_TOKEN",
    "tracker=none",
    'traffic.scenarios=["D(16,8)"]',
    "traffic.concurrencies=[1,2]",
    "traffic.min_requests=4",
    "traffic.requests_per_user=2",
]


@pytest.fixture(autouse=True)
def parts(needs: Callable[..., None]) -> None:
    needs("genai_bench", "xllamacpp", "gguf", "tokenizers")


def measured(folder: Path, *overrides: str, **env: str) -> Result:
    """One trial, with the key in the environment and in no other place."""
    argv = [sys.executable, "-m", "pipeline", *SMALL, f"hydra.run.dir={folder}/0", *overrides]
    own = {**os.environ, "TEAM_TOKEN": KEY, "SERVETUNE_API_KEY": "of-another-server", **env}
    done = subprocess.run(argv, cwd=ROOT, env=own, capture_output=True, text=True, timeout=500, check=False)
    return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder)


def written(folder: Path) -> str:
    """All that is on disk."""
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_a_real_server_is_measured_and_lives_on(tmp_path: Path, tiny_gguf: Path) -> None:
    with serving(tiny_gguf, tmp_path, "--parallel", "2", key=KEY) as server:
        given = [f"backend.url={server.url}", "runtime=llamacpp", "model=gguf", f"model.path={tiny_gguf}"]
        result = measured(tmp_path / "out", *given)
        assert result.code == 0, result.err
        record = result.record
        assert (record.status, record.deployment["served_name"]) == ("ok", "tiny")
        assert record.settings is not None  # its engine was named, so it was asked for more than /v1
        levels = [level.metrics for level in record.levels]
        assert [(seen.num_requests, seen.error_rate, seen.output_tokens_mean) for seen in levels if seen] == [
            (4, 0.0, 8.0),
            (4, 0.0, 8.0),
        ]
        assert record.teardown is not None
        assert record.teardown.is_clean
        assert record.argv == ()
        assert server.program.poll() is None
        assert server.chat("Shall I compare thee")["choices"]
        assert [*lease.all_registered()] == []
    assert KEY not in written(result.folder) + result.out + result.err
    assert "nothing was deployed, and nothing torn down" in " ".join(record.notes)


def test_a_server_behind_tls_a_key_and_a_path_without_a_tokenizer(tmp_path: Path) -> None:
    own = certified(tmp_path)
    with standing_in("org/big", certificate=own, key=KEY, prefix="/team") as server:
        given = [f"backend.url={server.url}/v1/", f"backend.ca_file={own}"]
        # a proxy, and a password for the host, that would come between
        away = {"HTTPS_PROXY": "http://localhost:1", "NETRC": str(tmp_path / "netrc")}
        (tmp_path / "netrc").write_text("machine localhost login me password of-somebody-else\n")
        result = measured(tmp_path / "out", *given, **away)
        assert result.code == 0, result.err
        assert {seen.key for seen in server.asked} == {f"Bearer {KEY}"}
        assert {seen.path for seen in server.asked} == {"/team/v1/models", "/team/v1/chat/completions"}
        streamed = [seen.body for seen in server.chats if seen.body.get("stream")]
        assert {body["model"] for body in streamed} == {"org/big"}
        assert len({body["messages"][0]["content"] for body in streamed}) == len(streamed) == 8
        assert not any("ignore_eos" in body for body in streamed)
    record = result.record
    assert record.status == "ok"
    assert record.config.backend.url == server.url
    assert "prompts are cut with a tokenizer of our own" in " ".join(record.notes)
    assert KEY not in written(result.folder) + result.out + result.err
