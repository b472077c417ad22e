"""What engines say when they cannot serve -> kind, hint and reason. Each log in logs/ names its source."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.core.errors import FailureKind as Kind
from pipeline.core.places import CONF
from pipeline.engines.death_hints import ANY, KNOBS, LLAMA, SGLANG, TRANSFORMERS, VLLM, Pattern
from pipeline.engines.death_patterns import PATTERNS
from pipeline.engines.diagnose import engine_of, in_log, knobs, never_ready, not_ready, overload, server_death

LOGS = Path(__file__).parent / "logs"
ENGINES = (SGLANG, VLLM, LLAMA, TRANSFORMERS)
CAUSES = {
    "llamacpp/bad-cache-type": (Kind.BAD_FLAG, "knobs named in the message", "GGML_TYPE_Q3_0"),
    "llamacpp/bad-choice": (Kind.BAD_FLAG, "knobs named in the message", "invalid choice: 'maybe'"),
    "llamacpp/bad-number": (Kind.BAD_FLAG, "knobs named in the message", "argument --threads: invalid int"),
    "llamacpp/cache-block-size": (Kind.UNSUPPORTED_COMBINATION, "knob that the message", "does not divide n_embd"),
    "llamacpp/gpu-memory": (Kind.OOM_GPU, "lower n_gpu_layers", "cudaMalloc failed: out of memory"),
    "llamacpp/kv-cache-too-big": (Kind.OOM_HOST, "lower n_ctx or n_parallel", "insufficient memory"),
    "llamacpp/model-cut-off": (Kind.MODEL_MISSING, "Check model.path", "not within the file bounds"),
    "llamacpp/model-garbage": (Kind.MODEL_MISSING, "Check model.path", "invalid magic characters"),
    "llamacpp/model-missing": (Kind.MODEL_MISSING, "Check model.path", "failed to open GGUF file"),
    "llamacpp/no-context": (Kind.LOAD_FAILED, "combination of knobs", "failed to create context"),
    "llamacpp/no-memory-for-mmap": (Kind.OOM_HOST, "Not enough memory", "Cannot allocate memory"),
    "llamacpp/no-memory-for-weights": (Kind.OOM_HOST, "Not enough memory", "CPU_REPACK"),
    "llamacpp/port-taken": (Kind.PORT_TAKEN, "Run the trial again", "couldn't bind"),
    "llamacpp/quantised-v-without-flash-attention": (Kind.UNSUPPORTED_COMBINATION, "Change the knob", "flash_attn"),
    "llamacpp/unknown-flag": (Kind.BAD_FLAG, "runtime.extra_args", "unrecognized arguments: --page-size 3"),
    "sglang/ambiguous-option": (Kind.BAD_FLAG, "rejects this flag", "ambiguous option: --cuda-graph-max-bs could"),
    "sglang/chunk-not-divisible": (Kind.UNSUPPORTED_COMBINATION, "Change the knob", "divisible by page_size"),
    "sglang/context-too-long": (Kind.UNSUPPORTED_COMBINATION, "Change the knob", "User-specified context_length (100"),
    "sglang/custom-all-reduce-is-only-a-warning": (Kind.OOM_GPU, "raise tp_size", "GPU 1 has a total capacity"),
    "sglang/driver-too-old": (Kind.DRIVER_TOO_OLD, "newer NVIDIA driver", "found version 12040"),
    "sglang/disk-full": (Kind.DISK_FULL, "A disk is full", "No space left on device (runtime/cache.py)"),
    "sglang/dtype-for-quantisation": (Kind.UNSUPPORTED_COMBINATION, "another data type", "Supported dtypes"),
    "sglang/expected-argument": (Kind.BAD_FLAG, "rejects this flag", "--mem-fraction-static: expected one argument"),
    "sglang/fa3-on-wrong-gpu": (Kind.UNSUPPORTED_COMBINATION, "Set another attention_backend", "requires SM>=80"),
    "sglang/gated": (Kind.MODEL_GATED, "HF_TOKEN", "Cannot access gated repo for url https://"),
    "sglang/hub-unreachable": (Kind.HUB_UNREACHABLE, "local folder", "trying to locate the file on the Hub"),
    "sglang/inner-port-taken": (Kind.PORT_TAKEN, "Run the trial again", "dist_init_port at 30001 is not available"),
    "sglang/invalid-choice": (Kind.BAD_FLAG, "rejects this flag", "--attention-backend: invalid choice: 'fa9'"),
    "sglang/kv-after-weights": (Kind.KV_CACHE_TOO_SMALL, "raise mem_fraction_static", "above 0.712"),
    "sglang/kv-pool": (Kind.KV_CACHE_TOO_SMALL, "raise mem_fraction_static", "Current value"),
    "sglang/kv-pool-old": (Kind.KV_CACHE_TOO_SMALL, "raise mem_fraction_static", "Current value"),
    "sglang/more-gpus-than-there-are": (Kind.UNSUPPORTED_COMBINATION, "Lower tp_size", "invalid device ordinal"),
    "sglang/nccl": (Kind.GPU_COMMUNICATION, "lower tp_size to 1", "DistBackendError: NCCL error in"),
    "sglang/nccl-shared-memory-full": (Kind.OOM_HOST, "--shm-size", "failed to extend /dev/shm/nccl-YrFC5V"),
    "sglang/no-compiler": (Kind.LOAD_FAILED, "set enable_torch_compile=false", "InvalidCxxCompiler: No working C++"),
    "sglang/no-accelerator": (Kind.NO_GPU, "CUDA_VISIBLE_DEVICES", "No accelerator (CUDA"),
    "sglang/nvfp4-kv-on-wrong-gpu": (Kind.UNSUPPORTED_COMBINATION, "kv_cache_dtype", "requires Blackwell SM100"),
    "sglang/oom-at-load": (Kind.OOM_GPU, "raise tp_size", "torch.OutOfMemoryError: CUDA out of memory. Tried"),
    "sglang/oom-in-graph-capture": (Kind.OOM_GPU, "cuda_graph_max_bs_decode", "Capture cuda graph failed"),
    "sglang/oom-while-serving": (Kind.OOM_GPU, "chunked_prefill_size or max_running_requests", "Tried to allocate"),
    "sglang/port-taken": (Kind.PORT_TAKEN, "Run the trial again", "('127.0.0.1', 30000): address already in use"),
    "sglang/prefill-out-of-memory": (Kind.KV_CACHE_TOO_SMALL, "lower max_running_requests", "Prefill out of memory"),
    "sglang/quantisation-on-wrong-gpu": (Kind.UNSUPPORTED_COMBINATION, "quantization", "Minimum capability: 80"),
    "sglang/rank-bus-error": (Kind.OOM_HOST, "--shm-size", "crashed with exit code -7"),
    "sglang/rank-ends-of-itself": (Kind.SERVER_DIED, "run the command in plan.json", "KeyError: 'model.layers.0"),
    "sglang/rank-killed": (Kind.OOM_HOST, "dmesg", "exit code: -9"),
    "sglang/scheduler-killed-while-serving": (
        Kind.OOM_HOST,
        "dmesg",
        "scheduler_0 (pid=29303) crashed with exit code -9",
    ),
    "sglang/terminate": (Kind.SERVER_DIED, "run the command in plan.json", "CUDA error: invalid resource handle"),
    "sglang/tokenizer-missing": (Kind.MODEL_MISSING, "Check model.path", "Can't load tokenizer for '/models/m'"),
    "sglang/trtllm-mha-on-wrong-gpu": (Kind.UNSUPPORTED_COMBINATION, "attention_backend", "TRTLLM MHA backend"),
    "sglang/unknown-architecture": (Kind.UNSUPPORTED_COMBINATION, "engine version", "['NewForCausalLM']"),
    "sglang/unknown-quantisation": (Kind.BAD_FLAG, "rejects this flag", "Unknown quantization method: fp9"),
    "sglang/bitsandbytes-missing": (Kind.LOAD_FAILED, "Install the package", "install bitsandbytes>=0.46.1"),
    "sglang/compile-on-cpu": (Kind.UNSUPPORTED_COMBINATION, "enable_torch_compile=false", "init_cpu_graph_state"),
    "sglang/config-broken": (Kind.MODEL_MISSING, "Check model.path", "is not a valid JSON file"),
    "sglang/cpu-copies": (Kind.UNSUPPORTED_COMBINATION, "lower tp_size", "SGLANG_CPU_OMP_THREADS_BIND is not set"),
    "sglang/cpu-ranks": (Kind.UNSUPPORTED_COMBINATION, "lower tp_size", "SGLANG_CPU_OMP_THREADS_BIND is not set"),
    "sglang/detokenizer-killed-while-serving": (Kind.OOM_HOST, "dmesg", "detokenizer"),
    "sglang/fa3-on-cpu": (Kind.UNSUPPORTED_COMBINATION, "Set another attention_backend", "requires SM>=80"),
    "sglang/flashinfer-on-cpu": (
        Kind.UNSUPPORTED_COMBINATION,
        "attention_backend=torch_native",
        "BatchPrefillWithRaggedKVCacheWrapper",
    ),
    "sglang/fp8-kv-without-amx": (Kind.UNSUPPORTED_COMBINATION, "no such kernel", "CPU FP8 KV cache requires"),
    "sglang/fp8-without-amx": (Kind.UNSUPPORTED_COMBINATION, "no such kernel", "Fp8LinearMethod on CPU requires"),
    "sglang/gguf-of-a-folder": (Kind.MODEL_MISSING, "Check model.path", "/models/tiny is not a file"),
    "sglang/killed-while-loading": (Kind.OOM_HOST, "dmesg", "(exit code: -9)"),
    "sglang/no-memory-for-weights": (Kind.OOM_HOST, "dmesg", "memory"),
    "sglang/no-such-folder": (Kind.MODEL_MISSING, "Check model.path", "Repo id must be in the form"),
    "sglang/no-weights": (Kind.MODEL_MISSING, "Check model.path", "Cannot find any model weights"),
    "sglang/port-taken-and-alive": (Kind.PORT_TAKEN, "Run the trial again", "attempting to bind on address"),
    "sglang/quantisation-of-unquantised": (Kind.UNSUPPORTED_COMBINATION, "other weights", "config file for awq"),
    "sglang/tokenizer-not-there": (Kind.MODEL_MISSING, "Check model.path", "instantiate the backend tokenizer"),
    "sglang/triton-on-cpu": (Kind.UNSUPPORTED_COMBINATION, "attention_backend=torch_native", "0 active drivers"),
    "sglang/unknown-class": (Kind.UNSUPPORTED_COMBINATION, "engine version", "'NewForCausalLM' is not a registered"),
    "sglang/weights-broken": (Kind.MODEL_MISSING, "damaged or cut off", "invalid JSON in header"),
    "sglang/weights-cut-off": (Kind.MODEL_MISSING, "damaged or cut off", "incomplete metadata, file not fully"),
    "vllm/backend-not-valid": (Kind.UNSUPPORTED_COMBINATION, "block_size", "['block_size not supported'"),
    "vllm/batched-tokens-below-seqs": (Kind.UNSUPPORTED_COMBINATION, "Change the knob", "to max_num_seqs (1024)."),
    "vllm/bfloat16-on-old-gpu": (Kind.UNSUPPORTED_COMBINATION, "another data type", "Tesla T4"),
    "vllm/context-too-long-old": (Kind.KV_CACHE_TOO_SMALL, "lower max_model_len", "max seq len (131072)"),
    "vllm/cpu-block-size": (Kind.UNSUPPORTED_COMBINATION, "Set block_size to a multiple", "CPU_ATTN: [MultipleOf(32)]"),
    "vllm/cpu-kv-space-too-large": (Kind.OOM_HOST, "lower VLLM_CPU_KVCACHE_SPACE", "requested memory for kv (200.0"),
    "vllm/cpu-numa": (Kind.UNSUPPORTED_COMBINATION, "lower tensor_parallel_size", "Not enough allowed NUMA nodes"),
    "vllm/custom-all-reduce": (Kind.GPU_COMMUNICATION, "--disable-custom-all-reduce", "custom_all_reduce.cuh:368"),
    "vllm/disk-full": (Kind.DISK_FULL, "A disk is full", "on device: '/root/.cache/torchinductor/w2/.104.tmp'"),
    "vllm/driver-insufficient": (Kind.DRIVER_TOO_OLD, "older engine version", "cudaGetDeviceCount"),
    "vllm/engine-core-killed-while-serving": (Kind.SERVER_DIED, "was killed or crashed", "EngineDeadError: EngineCore"),
    "vllm/engine-killed": (Kind.OOM_HOST, "dmesg", "{'EngineCore': -9}"),
    "vllm/exception-group": (Kind.SERVER_DIED, "plan.json", "ConfigurationError: no plugin is called 'mine'"),
    "vllm/gated": (Kind.MODEL_GATED, "Accept the model's terms", "trying to access a gated repo"),
    "vllm/gpu-held-by-another": (Kind.OOM_GPU, "Stop the other program", "(3.22/4.0 GiB) on startup"),
    "vllm/heads-not-divisible": (Kind.UNSUPPORTED_COMBINATION, "Change the knob", "attention heads (14)"),
    "vllm/hub-offline": (Kind.HUB_UNREACHABLE, "HF_HUB_OFFLINE", "outgoing traffic has been disabled"),
    "vllm/illegal-memory-access": (Kind.SERVER_DIED, "attention_backend", "an illegal memory access was"),
    "vllm/invalid-choice": (Kind.BAD_FLAG, "rejects this flag", "--kv-cache-dtype: invalid choice: 'int3'"),
    "vllm/invalid-repository": (Kind.MODEL_MISSING, "Check model.path", "'/models/nope'"),
    "vllm/kernel-missing": (Kind.UNSUPPORTED_COMBINATION, "no such kernel", "_C::static_scaled_fp8_quant() expected"),
    "vllm/kv-one-request": (Kind.KV_CACHE_TOO_SMALL, "lower max_model_len", "max seq len (4096)"),
    "vllm/more-gpus-than-there-are": (Kind.UNSUPPORTED_COMBINATION, "Lower tensor_parallel_size", "World size (8)"),
    "vllm/nccl": (Kind.GPU_COMMUNICATION, "NCCL_DEBUG=INFO", "NCCL error: unhandled cuda error"),
    "vllm/no-cache-blocks": (Kind.KV_CACHE_TOO_SMALL, "raise gpu_memory_utilization", "No available memory"),
    "vllm/no-compiler": (
        Kind.LOAD_FAILED,
        "apt install g++), or set enforce_eager=true",
        "InvalidCxxCompiler: No working",
    ),
    "vllm/no-device": (Kind.NO_GPU, "nvidia-smi", "Failed to infer device type"),
    "vllm/no-gpu": (Kind.NO_GPU, "nvidia-smi", "No CUDA GPUs are available"),
    "vllm/no-metadata": (Kind.LOAD_FAILED, "servetune doctor", "No package metadata was found for vllm"),
    "vllm/torchvision-of-another-torch": (Kind.LOAD_FAILED, "uv pip uninstall", "operator torchvision::nms"),
    "vllm/no-kernel-image": (Kind.UNSUPPORTED_COMBINATION, "engine version", "no kernel image"),
    "vllm/no-such-folder": (Kind.MODEL_MISSING, "Check model.path", "Repo id must be in the form"),
    "vllm/no-valid-backend": (Kind.UNSUPPORTED_COMBINATION, "attention_backend", "No valid attention backend"),
    "vllm/no-weights": (Kind.MODEL_MISSING, "Check model.path", "Cannot find any model weights"),
    "vllm/oom-at-load": (Kind.OOM_GPU, "raise tensor_parallel_size", "torch.OutOfMemoryError: CUDA out of memory."),
    "vllm/oom-in-sampler-warmup": (Kind.OOM_GPU, "max_num_seqs", "when warming up sampler"),
    "vllm/oom-while-serving": (Kind.OOM_GPU, "max_num_batched_tokens or max_num_seqs", "Tried to allocate 2.00 GiB"),
    "vllm/oom-killed-while-loading": (Kind.OOM_HOST, "dmesg", "{'EngineCore': -9}"),
    "vllm/port-taken": (Kind.PORT_TAKEN, "Run the trial again", "OSError: [Errno 98] Address already in use"),
    "vllm/quantisation-of-unquantised": (Kind.UNSUPPORTED_COMBINATION, "other weights", "config file for awq"),
    "vllm/quantisation-on-wrong-gpu": (Kind.UNSUPPORTED_COMBINATION, "other weights", "method nvfp4"),
    "vllm/repository-not-found": (Kind.MODEL_MISSING, "Check model.path", "api/models/nobody/nothing"),
    "vllm/semaphores-full": (Kind.OOM_HOST, "--shm-size", "on device (multiprocessing/synchronize.py)"),
    "vllm/shared-memory": (Kind.OOM_HOST, "--ipc=host", "shared memory segment"),
    "vllm/shared-memory-full": (Kind.OOM_HOST, "--shm-size", "file </torch_356_92807364_0>: No space left"),
    "vllm/tokenizer-missing": (Kind.MODEL_MISSING, "Check model.path", "instantiate the backend tokenizer"),
    "vllm/too-many-open-files": (Kind.LOAD_FAILED, "ulimit -n", "OSError: [Errno 24] Too many open files"),
    "vllm/unknown-cause": (Kind.SERVER_DIED, "run the command in plan.json", "KeyError: 'model.layers.0.mlp.gate'"),
    "vllm/unknown-quantisation": (Kind.BAD_FLAG, "rejects this flag", "Unknown quantization method: fp9"),
    "vllm/unrecognized": (Kind.BAD_FLAG, "rejects this flag", "vllm: error: unrecognized arguments"),
    "vllm/weights-cut-off": (Kind.MODEL_MISSING, "damaged or cut off", "incomplete metadata, file not fully covered"),
    "vllm/worker-bus-error": (Kind.OOM_HOST, "--shm-size", "exit code: -7"),
    "vllm/worker-killed": (Kind.OOM_HOST, "dmesg", "VllmWorker-0 died unexpectedly (exit code: -9)"),
    "transformers/bad-value": (Kind.BAD_FLAG, "rejects this flag", "'x' is not a valid integer"),
    "transformers/bitsandbytes-missing": (Kind.LOAD_FAILED, "Install the package", "requires bitsandbytes"),
    "transformers/flash-attention-missing": (Kind.LOAD_FAILED, "Install the package", "FlashAttention2 has been"),
    "transformers/flex-attention-has-no-pages": (
        Kind.UNSUPPORTED_COMBINATION,
        "Change the knob",
        "flex_attention is not",
    ),
    "transformers/no-folder": (Kind.MODEL_MISSING, "Check model.path", "Repo id must be in the form"),
    "transformers/no-pages": (Kind.KV_CACHE_TOO_SMALL, "raise cb_max_memory_percent", "num_sectors = -32"),
    "transformers/no-weights": (Kind.MODEL_MISSING, "Check model.path", "Error no file named model.safetensors"),
    "transformers/port-taken": (Kind.PORT_TAKEN, "Run the trial again", "address already in use"),
    "transformers/unknown-attention": (Kind.BAD_FLAG, "knobs named in the message", "implementation: 'fa9'"),
    "transformers/unknown-dtype": (Kind.BAD_FLAG, "knobs named in the message", "Unsupported dtype: 'float99'"),
    "transformers/unknown-flag": (Kind.BAD_FLAG, "runtime.extra_args", "No such option '--foo'"),
    "transformers/unknown-quantisation": (Kind.BAD_FLAG, "knobs named in the message", "Must be 'bnb-4bit'"),
    "transformers/weights-broken": (Kind.MODEL_MISSING, "Check model.path", "Error while deserializing header"),
    "sglang/cache-not-writable": (Kind.ENGINE_BROKEN, "TRITON_CACHE_DIR", "Permission denied: '/root/.triton'"),
    "sglang/engine-not-installed": (Kind.ENGINE_BROKEN, "runtime.python", "No module named sglang"),
    "sglang/glibc-too-old": (Kind.ENGINE_BROKEN, "newer Linux", "GLIBCXX_3.4.32' not found"),
    "sglang/kernel-does-not-compile": (Kind.LOAD_FAILED, "set another attention_backend", "Ninja build failed"),
    "sglang/kernels-for-another-cuda": (Kind.ENGINE_BROKEN, "the library's name", "libnvrtc.so.13"),
    "sglang/kernels-for-this-gpu-missing": (
        Kind.ENGINE_BROKEN,
        "another PyTorch or CUDA",
        "Could not load any",
    ),
    "sglang/optional-package-missing": (Kind.LOAD_FAILED, "or leave the knob out", "No module named 'deep_ep'"),
    "sglang/python-headers-missing": (
        Kind.ENGINE_BROKEN,
        "python3-dev",
        "Command '['/usr/bin/gcc'",
    ),
    "sglang/render-group": (Kind.NO_GPU, "groups render and video", "Unable to open /dev/kfd"),
    "llamacpp/library-missing": (Kind.ENGINE_BROKEN, "LD_LIBRARY_PATH", "libggml-cuda.so: cannot open"),
    "vllm/cuda-library-missing": (Kind.ENGINE_BROKEN, "that of CUDA", "libcudart.so.12: cannot open shared"),
    "vllm/dependency-missing": (Kind.ENGINE_BROKEN, "runtime.python", "No module named 'zmq'"),
    "vllm/model-code-needs-a-package": (Kind.ENGINE_BROKEN, "Install the package", "einops_exts"),
    "vllm/no-c-compiler": (Kind.ENGINE_BROKEN, "apt install gcc", "Failed to find C compiler"),
    "vllm/no-driver-library": (Kind.NO_GPU, "--gpus all", "libcuda.so.1: cannot open shared object file"),
    "vllm/no-nvcc": (Kind.LOAD_FAILED, "CUDA_HOME", "Could not find nvcc"),
    "sglang/versions-do-not-match": (Kind.ENGINE_BROKEN, "do not match", "AutoModelForMultimodalLM"),
    "vllm/optional-package-does-not-match": (Kind.LOAD_FAILED, "leave out the knob", "MultiLevelCascade"),
    "vllm/hub-cache-not-writable": (Kind.ENGINE_BROKEN, "HF_HOME", "PermissionError at /root/.cache"),
    "vllm/python-needs-newer-glibc": (Kind.ENGINE_BROKEN, "newer Linux", "GLIBC_2.38' not found"),
    "vllm/read-only": (Kind.ENGINE_BROKEN, "a place to write", "Read-only file system"),
    "vllm/undefined-symbol": (Kind.ENGINE_BROKEN, "another PyTorch or CUDA", "undefined symbol: _ZN3c104cuda"),
    "vllm/weights-not-readable": (Kind.MODEL_MISSING, "may read it", "model-00001-of-00002.safetensors"),
    "vllm/worker-failed": (Kind.LOAD_FAILED, "rejected this configuration", "Error in memory profiling"),
}
STILL = {
    "sglang/capturing": "still capturing CUDA graphs",
    "sglang/loading": "still loading the weights",
    "vllm/compiling": "still compiling",
    "vllm/downloading": "still downloading the model",
    "llamacpp/serving": "nothing answered on the port",
}


def log(name: str) -> str:
    """The excerpt without its first line, which names its source."""
    source, _, text = (LOGS / f"{name}.log").read_text().partition("\n")
    assert re.match(r"# source: \S{3}", source), name
    return text


@pytest.mark.parametrize("name", CAUSES)
def test_a_death_has_its_kind_its_hint_and_the_engines_own_reason(name: str) -> None:
    kind, hint, reason = CAUSES[name]
    found = server_death("exit code 1", log(name))
    assert (found.kind, hint in found.hint, reason in found.reason) == (kind, True, True), found


def test_a_living_servers_log_tells_why_it_answers_nothing() -> None:
    found = in_log(log("transformers/no-pages"))
    assert found is not None
    assert found.kind == Kind.KV_CACHE_TOO_SMALL
    assert in_log(log("llamacpp/serving")) is None


def test_a_server_that_cannot_bind_its_port_and_stays_is_not_waited_for() -> None:
    found = never_ready(log("sglang/port-taken-and-alive"))
    assert found is not None
    assert found.kind == Kind.PORT_TAKEN
    assert [name for name in STILL if never_ready(log(name))] == []


def test_every_log_is_judged() -> None:
    names = {f"{path.parent.name}/{path.stem}" for path in LOGS.glob("*/*.log")}
    assert names == {*CAUSES, *STILL}


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.regex[:40])
def test_every_wording_has_a_log(pattern: Pattern) -> None:
    logs = [log(name) for name in CAUSES if pattern.engine in (ANY, name.partition("/")[0])]
    found = [line for text in logs for line in text.splitlines() if re.search(pattern.regex, line)]
    assert found


@pytest.mark.parametrize("engine", [SGLANG, VLLM])
def test_every_kind_that_an_engine_can_give_has_a_log_of_it(engine: str) -> None:
    can = {pattern.kind for pattern in PATTERNS if pattern.engine in (ANY, engine)}
    assert can <= {kind for name, (kind, _, _) in CAUSES.items() if name.startswith(f"{engine}/")}


@pytest.mark.parametrize("engine", ENGINES)
def test_hints_name_only_knobs_that_the_engine_has(engine: str) -> None:
    path = CONF / "runtime" / f"{engine}.yaml"
    if not path.is_file():
        pytest.skip(f"no {path.name} yet")
    offered = yaml.safe_load(path.read_text())["runtime"]["knobs"]
    settings = {choice for knob in offered.values() for choice in knob.get("choices", ())}
    known = {*offered, *settings, "extra_args", "gpu_count"}
    hints = [part for p in PATTERNS if p.engine in (ANY, engine) for part in (p.hint, p.hint_running)]
    words = {word for hint in hints for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", hint.format_map(KNOBS[engine]))}
    assert words <= known


@pytest.mark.parametrize(
    ("how", "text", "kind", "hint"),
    [
        ("killed by SIGKILL", "serving\n", Kind.OOM_HOST, "dmesg"),
        ("exit code 137", "serving\n", Kind.OOM_HOST, "dmesg"),
        ("exit code 1 (killed by the memory limit)", "serving\n", Kind.OOM_HOST, "memory_gib"),
        ("killed by SIGBUS", "serving\n", Kind.OOM_HOST, "--ipc=host"),
        ("exit code 135", "", Kind.OOM_HOST, "shm_size_gib"),
        ("killed by SIGSEGV", "serving\n", Kind.SERVER_DIED, "crashed in its own code"),
        ("exit code 134", "serving\n", Kind.SERVER_DIED, "aborted itself"),
        ("exit code 2", "usage: x\nx: error: pick one of the two\n", Kind.BAD_FLAG, "runtime.extra_args"),
        ("exit code 7", "", Kind.SERVER_DIED, "Read the end of server.log"),
        ("killed by SIGKILL", log("sglang/oom-at-load"), Kind.OOM_GPU, "tp_size"),
        ("killed by SIGKILL", log("sglang/rank-ends-of-itself"), Kind.SERVER_DIED, "plan.json"),
    ],
    ids=[
        "killed", "killed-in-container", "memory-limit", "bus-error", "bus-error-in-container", "segfault", "abort",
        "parsers-own-words", "silent", "killed-by-itself-after-oom", "killed-by-itself-after-exception",
    ],
)  # fmt: skip
def test_an_ending_counts_where_the_log_names_no_cause(how: str, text: str, kind: Kind, hint: str) -> None:
    found = server_death(how, text)
    assert found.kind == kind
    assert hint in found.hint


LOST = log("vllm/engine-core-killed-while-serving")
WORKER = log("vllm/worker-killed")
SCHEDULER = log("sglang/scheduler-killed-while-serving")


@pytest.mark.parametrize(
    ("how", "text", "kills", "kind", "hint"),
    [
        ("killed by SIGKILL", "serving\n", 1, Kind.OOM_HOST, "memory cgroup"),
        ("killed by SIGKILL", "serving\n", 0, Kind.SERVER_DIED, "Another program killed"),
        ("killed by SIGKILL", "serving\n", None, Kind.OOM_HOST, "dmesg"),
        ("exit code 0", WORKER, 1, Kind.OOM_HOST, "memory cgroup"),
        ("exit code 0", WORKER, 0, Kind.SERVER_DIED, "Another program killed"),
        ("exit code 0", WORKER, None, Kind.OOM_HOST, "dmesg"),
        ("exit code 0", WORKER.replace("(exit code: -9)", "(exit code: None)"), 1, Kind.OOM_HOST, "memory cgroup"),
        ("exit code 0", WORKER.replace("(exit code: -9)", "(exit code: None)"), 0, Kind.SERVER_DIED, "dmesg"),
        ("killed by SIGKILL", SCHEDULER, 0, Kind.SERVER_DIED, "Another program killed"),
        ("exit code 0", LOST, 1, Kind.OOM_HOST, "memory cgroup"),
        ("exit code 0", LOST, 0, Kind.SERVER_DIED, "was killed or crashed in native code"),
        ("exit code 1", log("vllm/oom-killed-while-loading"), 2, Kind.OOM_HOST, "memory cgroup"),
        ("exit code 1", log("vllm/unknown-cause"), 1, Kind.SERVER_DIED, "plan.json"),
        ("exit code 1", log("vllm/invalid-choice"), 1, Kind.BAD_FLAG, "rejects this flag"),
        ("killed by SIGKILL", log("sglang/rank-ends-of-itself"), 0, Kind.SERVER_DIED, "plan.json"),
    ],
    ids=[
        "killed-by-the-kernel", "killed-by-another", "nobody-counts", "worker-by-the-kernel", "worker-by-another",
        "worker-and-nobody-counts", "worker-not-reaped-by-the-kernel", "worker-not-reaped", "scheduler",
        "core-by-the-kernel",
        "core-by-another", "while-loading", "a-neighbours-kill", "a-neighbours-kill-and-a-known-cause", "by-itself",
    ],
)  # fmt: skip
def test_the_kernels_count_tells_who_killed(how: str, text: str, kills: int | None, kind: Kind, hint: str) -> None:
    found = server_death(how, text, oom_kills=kills)
    assert found.kind == kind, found
    assert hint in found.hint


@pytest.mark.parametrize(
    ("first", "then", "kind"),
    [
        ("vllm/oom-at-load", "vllm/nccl", Kind.OOM_GPU),
        ("sglang/nccl", "sglang/oom-at-load", Kind.OOM_GPU),
        ("vllm/no-cache-blocks", "vllm/engine-killed", Kind.KV_CACHE_TOO_SMALL),
        ("vllm/hub-offline", "vllm/invalid-repository", Kind.HUB_UNREACHABLE),
        ("llamacpp/kv-cache-too-big", "llamacpp/no-context", Kind.OOM_HOST),
    ],
    ids=[
        "oom-breaks-nccl",
        "nccl-of-the-others-first",
        "no-kv-then-killed",
        "offline-looks-missing",
        "llama-last-words",
    ],
)
def test_the_root_cause_wins_over_what_follows_from_it(first: str, then: str, kind: Kind) -> None:
    assert server_death("exit code 1", log(first) + log(then)).kind == kind


@pytest.mark.parametrize(
    "line",
    [
        "(EngineCore pid=1) WARNING 11-02 08:26:59 [parallel.py:750] Address already in use. Retrying with a new port.",
        "(EngineCore pid=1) INFO 11-02 08:26:59 [x.py:1] if CUDA out of memory occurs, lower gpu_memory_utilization",
        "x.py:3: UserWarning: CUDA initialization: The NVIDIA driver on your system is too old",
        "1.06.520.107 W sched_reserve: insufficient memory, retrying",
        "W llama_context: failed to init something optional",
    ],
)
def test_a_warning_is_no_cause(line: str) -> None:
    assert server_death("exit code 1", f"{line}\n").kind == Kind.SERVER_DIED


def test_a_reason_is_clean_of_prefixes_and_of_pydantics_tail_and_not_too_long() -> None:
    reason = server_death("exit code 1", log("vllm/batched-tokens-below-seqs")).reason
    assert reason == "Value error, max_num_batched_tokens (512) must be greater than or equal to max_num_seqs (1024)."
    assert len(server_death("exit code 1", log("vllm/oom-at-load")).reason) == 243
    coloured = "\x1b[36m(EngineCore pid=1)\x1b[0m \x1b[31mERROR 11-02 08:26:59 [core.py:1]\x1b[0m KeyError: 'x'"
    assert server_death("exit code 1", coloured).reason == "KeyError: 'x'"


def test_only_the_end_of_a_long_log_counts() -> None:
    text = log("llamacpp/model-missing") + "\n" * 300_000
    assert server_death("exit code 1", text).kind == Kind.SERVER_DIED


def test_an_unknown_engines_hint_names_both_spellings() -> None:
    assert engine_of("torch.OutOfMemoryError: CUDA out of memory.") is None
    assert knobs(None)["memory"] == "mem_fraction_static / gpu_memory_utilization"
    assert knobs(None)["kv_type"] == "kv_cache_dtype"


@pytest.mark.parametrize("name", STILL)
def test_a_server_that_is_not_ready_is_said_to_be_at_its_stage(name: str) -> None:
    found = not_ready("ConnectionError", log(name))
    assert found.kind == Kind.NOT_READY_IN_TIME
    assert STILL[name] in found.hint
    assert "runtime.health.timeout_s" in found.hint


@pytest.mark.parametrize(
    ("seen", "name", "kind", "hint"),
    [
        ("HTTP 503: ", "llamacpp/serving", Kind.NOT_READY_IN_TIME, "answers HTTP 503"),
        ("HTTP 404: {}", "llamacpp/serving", Kind.NOT_READY_IN_TIME, "Check runtime.health.path"),
        ("HTTP 401: no", "vllm/compiling", Kind.NOT_READY_IN_TIME, "SERVETUNE_API_KEY"),
        ("ConnectionError", "sglang/oom-at-load", Kind.OOM_GPU, "hangs after an error. Weights"),
        ("ReadTimeout", "vllm/nccl", Kind.GPU_COMMUNICATION, "hangs after an error. The GPUs"),
    ],
    ids=["503", "wrong-path", "key", "hung-after-oom", "hung-after-nccl"],
)
def test_a_deadline_is_explained_by_the_last_answer_and_the_log(seen: str, name: str, kind: Kind, hint: str) -> None:
    found = not_ready(seen, log(name))
    assert found.kind == kind
    assert hint in found.hint


@pytest.mark.parametrize(
    ("codes", "total", "is_overload"),
    [
        ({"503": 8}, 8, True),
        ({"503": 5, "429": 3}, 8, True),
        ({"503": 7, "500": 1}, 8, False),
        ({"503": 7}, 8, False),
        ({}, 0, False),
    ],
    ids=["503", "both", "one-other", "one-answered", "none-asked"],
)
def test_only_a_server_that_refuses_everything_is_overloaded(
    codes: dict[str, int], total: int, is_overload: bool
) -> None:
    found = overload(codes, total, VLLM)
    assert (found is not None) == is_overload
    if found:
        assert found.kind == Kind.OVERLOADED
        assert "max_num_seqs" in found.hint


@pytest.mark.parametrize(
    ("runtime", "words"),
    [(SGLANG, "max_running_requests"), (VLLM, "max_num_queued_reqs"), (LLAMA, "n_parallel"), ("x", "at once")],
)
def test_the_remedy_for_overload_is_the_engines_own(runtime: str, words: str) -> None:
    found = overload({"503": 1}, 1, runtime)
    assert found is not None
    assert words in found.hint
