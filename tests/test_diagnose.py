"""What llama.cpp said when it could not serve (xllamacpp 2026.10, real logs cut to their ends) -> kind and hint."""

import pytest

from pipeline.diagnose import server_death
from pipeline.errors import FailureKind

MISSING = """\
E gguf_init_from_file: failed to open GGUF file '/nope.gguf' (No such file or directory)
E llama_model_load: error loading model: llama_model_loader: failed to load model from /nope.gguf
E llama_model_load_from_file_impl: failed to load model
error: llama.cpp cannot serve /nope.gguf: Failed to init server, please check the input params."""
GARBAGE = """\
E gguf_init_from_reader: invalid magic characters: 'not ', expected 'GGUF'
E llama_model_load: error loading model: llama_model_loader: failed to load model from /garbage.gguf
error: llama.cpp cannot serve /garbage.gguf: Failed to init server, please check the input params."""
CUT_OFF = """\
E common_fit_params: encountered an error while trying to fit params to free device memory: failed to load model
E llama_model_load: error loading model: tensor 'token_embd.weight' data is not within the file bounds, model is
E srv    load_model: failed to load model, '/cut.gguf'
error: llama.cpp cannot serve /cut.gguf: Failed to init server, please check the input params."""
QUANTISED_V = """\
E common_fit_params: encountered an error while trying to fit params to free device memory: failed to create
E llama_init_from_model: quantized V cache requires flash_attn to be enabled
E cmn  common_init_: failed to create context with model '/tiny.gguf'
error: llama.cpp cannot serve /tiny.gguf: Failed to init server, please check the input params."""
BLOCK_SIZE = """\
E llama_init_from_model: K cache type q4_0 with block size 32 does not divide n_embd_head_k=16
E cmn  common_init_: failed to create context with model '/tiny.gguf'
error: llama.cpp cannot serve /tiny.gguf: Failed to init server, please check the input params."""
HUGE_CONTEXT = """\
W llama_context: n_ctx_seq (50000128) > n_ctx_train (4096) -- possible training context overflow
E ggml_aligned_malloc: insufficient memory (attempted to allocate 12207.06 MB)
E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 12800032768
E llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache
E cmn  common_init_: failed to create context with model '/tiny.gguf'
error: llama.cpp cannot serve /tiny.gguf: Failed to init server, please check the input params."""
MMAP_OOM = """\
E llama_model_load: error loading model: mmap failed: Cannot allocate memory
E llama_model_load_from_file_impl: failed to load model
E srv    load_model: failed to load model, '/m.gguf'
error: llama.cpp cannot serve /m.gguf: Failed to init server, please check the input params."""
REPACK_OOM = """\
E llama_model_load: error loading model: unable to allocate CPU_REPACK buffer
E llama_model_load_from_file_impl: failed to load model
E srv    load_model: failed to load model, '/m.gguf'"""
PORT = """\
E srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 18812
E srv          init: exiting due to HTTP server error
error: llama.cpp cannot serve /tiny.gguf: Failed to init server, please check the input params."""
UNKNOWN_FLAG = "pipeline.runtimes.llamacpp: error: unrecognized arguments: --page-size 3"
BAD_NUMBER = "pipeline.runtimes.llamacpp: error: argument --threads: invalid int value: 'two'"
BAD_CHOICE = (
    "pipeline.runtimes.llamacpp: error: argument --flash-attn: invalid choice: 'maybe' (choose from 'on', 'off')"
)
BAD_TYPE = "error: llama.cpp cannot serve /tiny.gguf: GGML_TYPE_Q3_0"
SERVING = "I srv  init: model loaded\nlistening on http://127.0.0.1:18811\n"


@pytest.mark.parametrize(
    ("how", "log", "kind", "hint"),
    [
        ("exit code 1", MISSING, FailureKind.MODEL_MISSING, "check model.path"),
        ("exit code 1", GARBAGE, FailureKind.MODEL_MISSING, "check model.path"),
        ("exit code 1", CUT_OFF, FailureKind.MODEL_MISSING, "check model.path"),
        ("exit code 1", QUANTISED_V, FailureKind.LOAD_FAILED, "combination of knobs"),
        ("exit code 1", BLOCK_SIZE, FailureKind.LOAD_FAILED, "combination of knobs"),
        ("exit code 1", HUGE_CONTEXT, FailureKind.OOM_HOST, "smaller n_ctx or n_parallel"),
        ("exit code 1", MMAP_OOM, FailureKind.OOM_HOST, "Not enough memory"),
        ("exit code 1", REPACK_OOM, FailureKind.OOM_HOST, "Not enough memory"),
        ("exit code 1", PORT, FailureKind.PORT_TAKEN, "run the trial again"),
        ("exit code 2", UNKNOWN_FLAG, FailureKind.BAD_FLAG, "runtime.extra_args"),
        ("exit code 2", BAD_NUMBER, FailureKind.BAD_FLAG, "knobs named in the log"),
        ("exit code 2", BAD_CHOICE, FailureKind.BAD_FLAG, "knobs named in the log"),
        ("exit code 1", BAD_TYPE, FailureKind.BAD_FLAG, "knobs named in the log"),
        ("killed by SIGKILL", SERVING, FailureKind.OOM_HOST, "dmesg"),
        ("killed by SIGSEGV", SERVING, FailureKind.SERVER_DIED, "run the command in plan.json by hand"),
        ("exit code 7", "", FailureKind.SERVER_DIED, "Read the end of server.log"),
    ],
    ids=[
        "model-missing", "model-garbage", "model-cut-off", "quantised-v-without-flash-attention", "block-size",
        "kv-cache-too-big", "no-memory-for-mmap", "no-memory-for-weights", "port-taken", "unknown-flag", "bad-number",
        "bad-choice", "bad-cache-type", "killed", "segfault", "silent",
    ],
)  # fmt: skip
def test_a_death_has_one_kind_and_one_hint(how: str, log: str, kind: FailureKind, hint: str) -> None:
    found, words = server_death(how, log)
    assert found == kind
    assert hint in words


def test_only_the_end_of_a_long_log_counts() -> None:
    assert server_death("exit code 1", MISSING + "\n" * 30_000)[0] == FailureKind.SERVER_DIED
