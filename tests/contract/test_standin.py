"""The stand-in engines: do they behave as what they stand in for?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.stand_in import Engine, events, launch, serving
from fakes.tiny_hf import write_tiny_hf
from pipeline.engines import prefix_cache

BOTH = pytest.mark.parametrize("engine", ["sglang", "vllm"])
SONNET = "Thou art more lovely and more temperate: rough winds do shake the darling buds of May. "


@pytest.fixture(scope="module")
def tiny_hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_hf(tmp_path_factory.mktemp("hf"))


@pytest.fixture(scope="module")
def sglang(tiny_hf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Shared by the tests that leave it as it was."""
    flags = ("--served-model-name", "tiny", "--enable-cache-report")
    with serving("sglang", tmp_path_factory.mktemp("sglang"), *flags, model=tiny_hf) as running:
        yield running


@pytest.fixture(scope="module")
def vllm(tiny_hf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Shared by the tests that leave it as it was."""
    flags = ("--served-model-name", "tiny", "--enable-prompt-tokens-details")
    with serving("vllm", tmp_path_factory.mktemp("vllm"), *flags, model=tiny_hf, VLLM_SERVER_DEV_MODE="1") as running:
        yield running


@pytest.fixture
def one(engine: str, sglang: Engine, vllm: Engine) -> Engine:
    return {"sglang": sglang, "vllm": vllm}[engine]


# The command line


@pytest.mark.parametrize(
    ("engine", "flags", "words"),
    [
        ("sglang", ["--nope", "3"], "sglang serve: error: unrecognized arguments: --nope 3"),
        ("sglang", ["--attention-backend", "fa9"], "error: argument --attention-backend: invalid choice: 'fa9'"),
        ("sglang", ["--page-size", "x"], "error: argument --page-size: invalid int value: 'x'"),
        (
            "sglang",
            ["--cuda-graph-max-bs", "8"],
            "ambiguous option: --cuda-graph-max-bs could match --cuda-graph-max-bs-decode, --cuda-graph-max-bs-prefill",
        ),
        ("vllm", ["--page-size", "16"], "error: unrecognized arguments: --page-size 16"),
        ("vllm", ["--dtype", "int3"], "error: argument --dtype: invalid choice: 'int3'"),
    ],
    ids=["unknown", "choice", "number", "ambiguous", "vllm-unknown", "vllm-choice"],
)
def test_a_bad_flag_ends_with_the_words_of_argparse(engine: str, flags: list[str], words: str) -> None:
    done = launch(engine, *flags)
    assert done.returncode == 2
    assert words in done.stderr


def test_the_older_version_takes_what_the_newer_does_not() -> None:
    done = launch("sglang", "--cuda-graph-max-bs", "8", "--page-size", "3", STANDIN_VERSION="0.5.10.post1")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "AssertionError: chunked_prefill_size must be divisible by page_size",
    )


# What it makes of its arguments


def test_the_page_size_is_rewritten_without_a_word(tmp_path: Path) -> None:
    flags = ("--attention-backend", "trtllm_mha", "--page-size", "8")
    with serving("sglang", tmp_path, *flags) as running:
        told = running.get("/server_info").json()
        assert (told["page_size"], told["attention_backend"]) == (64, "trtllm_mha")
        assert "--page-size 8" in told["launch_command"]
        assert "changing page_size from 8 to 64" in running.log


@pytest.mark.parametrize(
    ("gpu", "backend"), [("sm80", "flashinfer"), ("sm90", "fa3"), ("sm100", "trtllm_mha")], ids=str
)
def test_sglang_chooses_attention_by_the_gpu(gpu: str, backend: str, tmp_path: Path) -> None:
    with serving("sglang", tmp_path, STANDIN_GPU=gpu) as running:
        assert running.get("/server_info").json()["attention_backend"] == backend


def test_vllm_resolves_its_configuration(vllm: Engine) -> None:
    told = vllm.get("/server_info?config_format=json").json()["vllm_config"]
    assert told["cache_config"]["block_size"] == 16
    assert told["scheduler_config"]["max_num_batched_tokens"] == 8192
    assert told["scheduler_config"]["max_num_seqs"] == 1024
    assert told["attention_config"]["backend"] is None


# Endpoints


@pytest.mark.parametrize(
    ("engine", "path", "status", "words"),
    [
        ("sglang", "/health", 200, ""),
        ("sglang", "/health_generate", 200, ""),
        ("sglang", "/v1/models", 200, '"id": "tiny"'),
        ("sglang", "/model_info", 200, '"LlamaForCausalLM"'),
        ("sglang", "/server_info", 200, '"version": "0.5.23"'),
        ("sglang", "/flush_cache", 200, "Cache flushed."),
        ("sglang", "/metrics", 404, "Not Found"),
        ("sglang", "/nothing", 404, "Not Found"),
        ("vllm", "/health", 200, ""),
        ("vllm", "/ping", 200, ""),
        ("vllm", "/version", 200, '{"version": "0.33.0"}'),
        ("vllm", "/load", 200, '{"server_load": 0}'),
        ("vllm", "/v1/models", 200, '"max_model_len": 4096'),
        ("vllm", "/metrics", 200, 'vllm:num_requests_running{engine="0",model_name="tiny"} 0.0'),
    ],
)
def test_an_endpoint_answers(one: Engine, path: str, status: int, words: str) -> None:
    answer = one.get(path)
    assert (answer.status_code, words in answer.text) == (status, True)


def test_sglangs_own_endpoint_answers(sglang: Engine) -> None:
    sampling = {"max_new_tokens": 5, "ignore_eos": True}
    meta = sglang.post("/generate", {"text": "a b", "sampling_params": sampling}).json()["meta_info"]
    assert (meta["completion_tokens"], meta["finish_reason"]) == (5, {"type": "length", "length": 5})


def test_vllm_tells_and_resets_in_development_mode_alone(tmp_path: Path) -> None:
    with serving("vllm", tmp_path) as running:
        assert [running.get("/server_info").status_code, running.post("/reset_prefix_cache").status_code] == [404, 404]


@BOTH
def test_a_key_is_asked_for(engine: str, tmp_path: Path) -> None:
    with serving(engine, tmp_path, "--api-key", "sk-1") as running:
        assert (running.is_ready(), running.chat().status_code) == (True, 401)


# Completions


@BOTH
@pytest.mark.parametrize("is_chat", [True, False], ids=["chat", "plain"])
def test_a_stream_holds_a_token_in_each_chunk_and_the_usage(one: Engine, *, is_chat: bool, tiny_hf: Path) -> None:
    from tokenizers import Tokenizer

    asked = {"messages": [{"role": "user", "content": SONNET}]} if is_chat else {"prompt": SONNET}
    more = {"max_tokens": 8, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    path = "/v1/chat/completions" if is_chat else "/v1/completions"
    answer = one.post(path, {**asked, **more})
    assert answer.headers["Transfer-Encoding"] == "chunked"
    *chunks, last = events(answer)
    choices = [chunk["choices"][0] for chunk in chunks]
    texts = [choice["delta"].get("content") if is_chat else choice["text"] for choice in choices]
    assert [text for text in texts if text] == [" day"] * 8
    assert choices[-1]["finish_reason"] == "length"
    counted = len(Tokenizer.from_file(str(tiny_hf / "tokenizer.json")).encode(SONNET).ids)
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (counted, 8)


@BOTH
def test_without_ignore_eos_the_text_ends_by_itself(one: Engine) -> None:
    answer = one.chat(max_tokens=300, ignore_eos=False).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] < 40


def first_token_s(running: Engine, prompt: str) -> tuple[float, int]:
    """Measured, and how many tokens came from the cache."""
    begun = time.perf_counter()
    answer = running.chat(prompt, max_tokens=1).json()
    told = answer["usage"]["prompt_tokens_details"] or {"cached_tokens": 0}
    return time.perf_counter() - begun, told["cached_tokens"]


@pytest.mark.parametrize(
    ("engine", "report", "how"),
    [("sglang", "--enable-cache-report", "sglang_flush"), ("vllm", "--enable-prompt-tokens-details", "vllm_reset")],
    ids=["sglang", "vllm"],
)
def test_a_prompt_that_was_seen_is_faster_until_the_cache_is_emptied(
    engine: str, report: str, how: str, tmp_path: Path
) -> None:
    """Slowed down, so that the model's times outweigh the machine's."""
    prompt = SONNET * 200
    with serving(engine, tmp_path, report, STANDIN_SPEED="1", VLLM_SERVER_DEV_MODE="1") as running:
        (fresh, none), *others = (first_token_s(running, prompt) for _ in range(4))
        again, most = min(others)  # a busy machine may hold up any of them
        assert "failed" not in prefix_cache.empty(running.url, how)
        _, after = first_token_s(running, prompt)
    assert (none, after) == (0, 0)
    assert most > 3000
    assert fresh > 2 * again


@pytest.mark.parametrize(
    ("engine", "flag"), [("sglang", "--disable-radix-cache"), ("vllm", "--no-enable-prefix-caching")]
)
def test_the_prefix_cache_can_be_off(engine: str, flag: str, tmp_path: Path) -> None:
    report = {"sglang": "--enable-cache-report", "vllm": "--enable-prompt-tokens-details"}[engine]
    with serving(engine, tmp_path, flag, report) as running:
        assert [first_token_s(running, SONNET * 20)[1] for _ in range(2)] == [0, 0]


@pytest.mark.parametrize(("engine", "how"), [("sglang", "sglang_flush"), ("vllm", "vllm_reset")])
def test_the_cache_is_kept_while_a_request_runs(one: Engine, how: str) -> None:
    with one.busy():
        assert not prefix_cache.is_idle(one.url, how)
        assert prefix_cache.empty(one.url, how).startswith("failed: ")
    assert prefix_cache.is_idle(one.url, how)
