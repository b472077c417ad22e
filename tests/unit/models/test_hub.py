"""Models of the hub: found in a cache laid out as huggingface_hub does, else told why not. No network."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.core.errors import FailureKind, ModelError
from pipeline.core.schema import Model
from pipeline.models import assets, hub
from pipeline.models.hub import Wanted

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
