"""Models of the hub: found in a cache laid out as huggingface_hub does, else told why not. No network."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.core.errors import FailureKind, ModelError
from pipeline.core.schema import Model
from pipeline.models import assets, hub
from pipeline.models.hub import Wanted
from pipeline.trial import checks
from support.places import ROOT
from support.records import make_config

SHA = "c1899de289a04d12100db370d81485cdf75e47ca"
WANTED = Wanted(repo="Qwen/Qwen3-0.6B", revision="main")


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make a cached snapshot of Qwen/Qwen3-0.6B that holds these files."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def make(*names: str) -> Path:
        home = tmp_path / "hub" / "models--Qwen--Qwen3-0.6B"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text(SHA)
        return fill(home / "snapshots" / SHA, *names)

    return make


def test_a_complete_snapshot_is_found_by_branch_and_by_commit(cached: Callable[..., Path]) -> None:
    folder = cached("config.json", "tokenizer.json", "model.safetensors")
    assert hub.find(WANTED) == folder
    assert hub.find(Wanted(repo=WANTED.repo, revision=SHA)) == folder


@pytest.mark.parametrize(
    "names", [(), ("config.json", "tokenizer.json"), ("model.safetensors",)], ids=["empty", "no-weights", "no-config"]
)
def test_an_incomplete_snapshot_is_not_found(cached: Callable[..., Path], names: tuple[str, ...]) -> None:
    cached(*names)
    assert hub.find(WANTED) is None


def test_a_snapshot_needs_every_file_of_its_index(cached: Callable[..., Path]) -> None:
    folder = cached("config.json", "a.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    assert hub.find(WANTED) is None
    (folder / "b.safetensors").write_text("")
    assert hub.find(WANTED) == folder


def test_a_tokenizer_alone_is_enough_where_only_that_is_wanted(cached: Callable[..., Path]) -> None:
    folder = cached("tokenizer.json")
    assert hub.find(Wanted(repo=WANTED.repo, revision=None, patterns=hub.TOKENIZER)) == folder


def test_without_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # discard: nobody answers
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="the Hugging Face hub cannot be reached") as caught:
        hub.fetch(WANTED, log=tmp_path / "log", watch=lambda: None)
    assert caught.value.kind == FailureKind.HUB_UNREACHABLE
    assert "model.path" in caught.value.hint


@contextmanager
def answering(code: int, error: str) -> Iterator[str]:
    """A hub that refuses everything as the real one does: huggingface_hub reads X-Error-Code."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.send_header("X-Error-Code", error)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("code", "error", "kind", "words"),
    [
        (403, "GatedRepo", FailureKind.MODEL_GATED, "Qwen/Qwen3-0.6B is gated"),
        (404, "RepoNotFound", FailureKind.MODEL_MISSING, "There is no model Qwen/Qwen3-0.6B on the Hugging Face hub"),
        (404, "RevisionNotFound", FailureKind.MODEL_MISSING, "Qwen/Qwen3-0.6B has no revision main"),
    ],
    ids=["gated", "no-repository", "no-revision"],
)
def test_what_the_hub_refuses_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, code: int, error: str, kind: FailureKind, words: str
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with answering(code, error) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(ModelError, match=words) as caught:
            hub.fetch(WANTED, log=tmp_path / "log", watch=lambda: None)
    assert caught.value.kind == kind


def test_what_the_watch_raises_ends_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://10.255.255.1")  # not routed: an attempt hangs
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.fetch(WANTED, log=tmp_path / "log", watch=stop)


def test_a_folder_is_a_model_with_its_own_tokenizer(tmp_path: Path) -> None:
    folder = fill(tmp_path / "mine", "config.json", "tokenizer.json")
    found = assets.prepare(Model(name="local", served_name="mine", path=folder))
    assert (found.model_path, found.tokenizer_dir) == (folder, folder)


def test_a_tokenizer_may_lie_elsewhere(tmp_path: Path) -> None:
    folder, other = fill(tmp_path / "mine", "config.json"), fill(tmp_path / "other", "tokenizer.json")
    found = assets.prepare(Model(name="local", served_name="mine", path=folder, tokenizer=str(other)))
    assert found.tokenizer_dir == other


def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    folder = fill(tmp_path / "mine", "config.json")
    with pytest.raises(ModelError, match=r"has no tokenizer\. Expected tokenizer\.json") as caught:
        assets.prepare(Model(name="local", served_name="mine", path=folder))
    assert "model.tokenizer" in caught.value.hint


def test_what_is_expected_of_a_model_that_is_not_here_is_its_name(cached: Callable[..., Path]) -> None:
    model = Model(name="qwen", served_name="q", repo="Qwen/Qwen3-0.6B", revision="main")
    assert assets.has_to_come(model)
    assert str(assets.expected(model).model_path) == "Qwen/Qwen3-0.6B"
    folder = cached("config.json", "tokenizer.json", "model.safetensors")
    assert not assets.has_to_come(model)
    assert assets.expected(model).model_path == folder


ASK = "from pipeline.models import hub; print(hub.unreachable())"


def asked(**env: str) -> str:
    """What a process says whose environment has these."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    argv = [sys.executable, "-c", ASK]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=240, check=True).stdout.strip()


def test_a_hub_that_nobody_reaches_is_told_with_the_reason() -> None:
    assert asked(HF_HUB_OFFLINE="1") == "HF_HUB_OFFLINE is set"
    assert asked(HF_ENDPOINT="http://127.0.0.1:9") == "http://127.0.0.1:9: ConnectionError"


def test_a_hub_that_takes_connections_is_there_however_slow_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert asked(HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}") == "None"


def test_a_model_that_would_have_to_come_is_refused_without_a_hub(
    cached: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "unreachable", lambda: "https://hub: no answer within 4 s")
    config = make_config(model={"name": "qwen", "repo": WANTED.repo, "revision": "main", "served_name": "m"})
    with pytest.raises(ModelError, match=r"the Hugging Face hub cannot be reached .https://hub: no answer") as caught:
        checks.model(config)
    assert caught.value.kind == FailureKind.HUB_UNREACHABLE
    cached("config.json", "tokenizer.json", "model.safetensors")
    assert checks.model(config).endswith(SHA)


def test_a_tokenizer_that_would_have_to_come_needs_a_hub_as_well(
    cached: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "unreachable", lambda: "https://hub: no answer within 4 s")
    folder = fill(tmp_path / "model", "config.json", "model.safetensors")
    config = make_config(model={"name": "own", "path": folder, "tokenizer": WANTED.repo, "served_name": "m"})
    with pytest.raises(ModelError, match=r"Qwen/Qwen3-0\.6B is not in .*, and the Hugging Face hub cannot be reached"):
        checks.model(config)
    cached("tokenizer.json")
    assert checks.model(config) == str(folder)


def test_a_tokenizer_that_is_named_is_taken_with_a_gguf_file_too(tiny_gguf: Path, tmp_path: Path) -> None:
    own = fill(tmp_path / "own", "tokenizer.json")
    model = Model(name="gguf", path=tiny_gguf, tokenizer=str(own), served_name="m")
    assert assets.prepare(model).tokenizer_dir == own
    assert assets.prepare_tokenizer(model) == own
    with pytest.raises(ModelError, match=r"model\.tokenizer=/no/such does not exist"):
        assets.check(replace(model, tokenizer="/no/such"), tiny_gguf)
