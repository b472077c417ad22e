"""What engines say and survive: it is never the reason, neither before nor after a real cause, nor alone.

Read in the sources of sglang 0.5.23 and vllm 0.33.0; what stands for `%s` is what the caught exceptions say.
"""

import pytest

from pipeline.core.errors import FailureKind as Kind
from pipeline.engines.diagnose import server_death

SGLANG_AT = "[2026-11-30 08:01:02 TP0] "
VLLM_AT = "(EngineCore pid=104) "
MISSING = "libcudart.so.12: cannot open shared object file: No such file or directory"
TRACE = (
    'Traceback (most recent call last):\n  File "/opt/venv/x.py", line 1, in capture\n    run()\n'
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
)
# File and line where it is logged -> the words
SGLANG = {
    "srt/models/registry.py:132": f"Ignore import error when loading sglang.srt.models.x: {MISSING}",
    "kernels/ops/kvcache/kvcache.py:62": (
        "Failed to load JIT KV-Cache kernel with k_row_bytes=256 v_row_bytes=256: Error building extension 'kvcache'"
    ),
    "kernels/ops/attention/flash_attention_v3.py:64": (
        "Rollback to implementation from sgl-kernel since loading FlashAttention v3 kernels from x with lockfile y "
        "failed: CUDA error: out of memory"
    ),
    "kernels/jit/utils/compile/loader.py:142": (
        "Cached JIT module x failed to load; rebuilding. Got error: y.so: undefined symbol: _ZN3c10"
    ),
    "srt/model_loader/weight_utils.py:677": (
        "Listing m on the Hub failed, using the local snapshot: 401 Client Error. Cannot access gated repo for url x"
    ),
    "srt/disaggregation/decode_kvcache_offload_manager.py:246": "Not enough host memory for request 4f1c",
    "srt/parser/template_detection.py:998": (
        "Failed to load tokenizer for auto-detection: Can't load tokenizer for '/models/m'."
    ),
    "srt/utils/common.py:2087": (
        "High-fidelity GPU JPEG decode is unavailable; falling back to PIL. Install the Kimi-K3 serving image or "
        "NVIDIA nvImageCodec. Error: CUDA driver version is insufficient"
    ),
    "srt/utils/cuda_vmm_utils.py:253": (
        "CUDA VMM FABRIC backing unavailable on device 0; trying fallback: CUDA error: out of memory"
    ),
    "srt/multimodal/kimi_k3_vit_cuda_graph_runner.py:206": (
        f"Kimi-K3 ViT CUDA graph capture failed for key=4; using eager fallback\n{TRACE}"
    ),
    "srt/distributed/device_communicators/custom_all_reduce_utils.py:387": (
        f"NVLink detection failed. This is normal if your machine has no NVLink equipped.\n{TRACE}"
    ),
    "srt/models/hunyuan_v4.py:130": f"fused_hy4_ihc_pre failed, disabling fused path\n{TRACE}",
    "srt/speculative/dspark_components/dspark_sampling_accept_graph.py:236": (
        f"DSpark sampling-accept graph capture failed for 4; sampling steps take the eager accept from now on.\n{TRACE}"
    ),
}
VLLM = {
    "platforms/interface.py:371": f"WARNING 11-30 02:21:29 [interface.py:371] Failed to import from vllm._C: {MISSING}",
    "model_loader/weight_cache/ipc_loader.py:263": (
        "ERROR 11-30 02:21:29 [ipc_loader.py:263] Weight cache IPC loading failed; falling back to disk loading\n"
        + "\n".join(f"ERROR 11-30 02:21:29 [ipc_loader.py:263] {line}" for line in TRACE.splitlines())
    ),
    "transformers_utils/repo_utils.py:126": (
        "ERROR 11-30 02:21:29 [repo_utils.py:126] Error retrieving file list: couldn't connect to "
        "'https://huggingface.co' to load the files, retrying 1 of 2"
    ),
    "platforms/cuda.py:1025": (
        "ERROR 11-30 02:21:29 [cuda.py:1025] NVLink detection not possible, as context support was not found. "
        "Assuming no NVLink available.\n"
        + "\n".join(f"ERROR 11-30 02:21:29 [cuda.py:1025] {line}" for line in TRACE.splitlines())
    ),
}
OTHERS = {
    "a-librarys-warning": "Warning: CUDA out of memory is not supported, using what there is",
    "torch": "[W1130 08:01:02.1 Module.cpp:1] Warning: undefined symbol: nothing",
    "a-missing-command": "/bin/sh: 1: nvcc: not found",
}
HARMLESS = {
    **{f"sglang {place}": f"{SGLANG_AT}{words}" for place, words in SGLANG.items()},
    **{f"vllm {place}": "\n".join(f"{VLLM_AT}{line}" for line in words.splitlines()) for place, words in VLLM.items()},
    **OTHERS,
}
GOES_ON = f"{SGLANG_AT}Load weight begin. avail mem=70.00 GB\n{VLLM_AT}INFO 11-30 02:21:29 [core.py:1] loading\n"
RAISED = 'Traceback (most recent call last):\n  File "/opt/venv/x.py", line 1, in init\n    run()\n'
CAUSES = {
    "scheduler": (
        f"{SGLANG_AT}Scheduler hit an exception: {RAISED}KeyError: 'model.layers.0'\n",
        Kind.SERVER_DIED,
    ),
    "main": (
        f"{RAISED}ValueError: max_num_batched_tokens (512) must be greater\n",
        Kind.UNSUPPORTED_COMBINATION,
    ),
}


@pytest.mark.parametrize("words", HARMLESS.values(), ids=HARMLESS)
def test_what_was_survived_is_never_the_reason(words: str) -> None:
    found = server_death("exit code 1", f"{words}\n{GOES_ON}")
    assert (found.kind, found.reason) == (Kind.SERVER_DIED, "")


@pytest.mark.parametrize("words", HARMLESS.values(), ids=HARMLESS)
@pytest.mark.parametrize(("cause", "kind"), CAUSES.values(), ids=CAUSES)
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_the_real_cause_wins(words: str, cause: str, kind: Kind, is_before: bool) -> None:
    text = f"{words}\n{GOES_ON}{cause}" if is_before else f"{cause}{words}\n{GOES_ON}"
    found = server_death("exit code 1", text)
    assert found.kind == kind
    assert found.reason == cause.splitlines()[-1]


def test_what_ends_the_engine_right_after_such_a_word_is_the_reason() -> None:
    text = f"{SGLANG_AT}deep_gemm not found, falling back to triton\n{TRACE}\n"
    assert server_death("exit code 1", text).kind == Kind.OOM_GPU
    child = f"{SGLANG_AT}Received sigquit from a child process. It usually means the child failed.\n"
    assert server_death("killed by SIGKILL", text + child).kind == Kind.OOM_GPU
    hit = text.replace("Traceback (m", f"{SGLANG_AT}Scheduler hit an exception: Traceback (m")
    assert server_death("killed by SIGKILL", hit + child + GOES_ON).kind == Kind.OOM_GPU


FAILED_REQUEST = (
    "ERROR:    Exception in ASGI application\nTraceback (most recent call last):\n"
    '  File "/opt/venv/x.py", line 1, in chat\n    run()\nValueError: logprobs is not supported by this model\n'
)
ANSWERED = {
    "access-log": 'INFO:     127.0.0.1:4242 - "POST /v1/completions HTTP/1.1" 200 OK',
    "sglang": f"{SGLANG_AT}Decode batch, #running-req: 4, #token: 4096, token usage: 0.1",
    "vllm": "(APIServer pid=9) INFO 11-30 02:21:29 [loggers.py:1] Engine 000: Avg prompt throughput: 1.0 tokens/s",
    "llamacpp": "I srv  log_server_r: done request: POST /v1/chat/completions 127.0.0.1 200",
}


@pytest.mark.parametrize("answer", ANSWERED.values(), ids=ANSWERED)
@pytest.mark.parametrize("how", ["killed by SIGKILL", "killed by SIGTERM", "exit code 137", "exit code 143"])
def test_a_request_that_failed_is_not_why_a_server_was_killed_later(how: str, answer: str) -> None:
    found = server_death(how, f"{FAILED_REQUEST}{answer}\n", oom_kills=0)
    assert (found.kind, found.reason) == (Kind.SERVER_DIED, "")
    assert "Another program" in found.hint
    assert server_death(how, f"{answer}\n{TRACE}\n").kind == Kind.OOM_GPU
    assert server_death("exit code 1", f"{TRACE}\n{answer}\n").kind == Kind.OOM_GPU


def test_an_engine_that_kills_itself_ended_of_its_error_whatever_it_answered_meanwhile() -> None:
    child = f"{SGLANG_AT}Received sigquit from a child process. It usually means the child failed.\n"
    found = server_death("killed by SIGKILL", f"{TRACE}\n{ANSWERED['access-log']}\n{child}")
    assert found.kind == Kind.OOM_GPU


def test_sglang_that_was_asked_to_end_did_not_die_of_a_request() -> None:
    asked = f"{SGLANG_AT}SIGTERM received. signum=None frame=None. Draining requests and shutting down...\n"
    found = server_death("exit code 0", f"{FAILED_REQUEST}{ANSWERED['sglang']}\n{asked}")
    assert (found.kind, found.reason) == (Kind.SERVER_DIED, "")
    assert "SIGTERM" in found.hint
