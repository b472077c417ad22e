"""What engines say of the machine below them: a full disk, a kernel that crashed, a neighbour that is gone. Rows of
pipeline.engines.death_patterns.
"""

from pipeline.core.errors import FailureKind as Kind
from pipeline.engines import death_hints as hints
from pipeline.engines.death_hints import ANY, Pattern

# Shared memory is a disk, too. Where nothing names it, the place tells that raised it (pipeline.engines.log_lines).
FULL: tuple[Pattern, ...] = (
    Pattern(
        ANY,
        r"No space left on device.*(/dev/shm|/(heap|shared_memory|synchronize|mm_utils)\.py\)$)|/dev/shm.*No space left"
        r"|(shared memory\(shm\) for|write to) file </torch_\S+ No space left|posix_fallocate failed : No space left",
        Kind.OOM_HOST,
        hints.SHM,
        "errno 28 of multiprocessing, torch and NCCL; sglang 0.5.23 srt/managers/mm_utils.py:1386",
    ),
    Pattern(
        ANY,
        r"No space left on device|StorageFull|Disk quota exceeded",
        Kind.DISK_FULL,
        hints.DISK,
        "errno 28 and 122; safetensors and tokenizers, in Rust's words",
    ),
)
GPUS: tuple[Pattern, ...] = (
    Pattern(
        ANY,
        r"(CUDA|HIP) error: (an illegal (memory access|instruction)|device-side assert|unspecified launch failure"
        r"|misaligned address|uncorrectable ECC|unknown error)|Triton Error \[(CUDA|HIP)\]: (an illegal|misaligned)",
        Kind.SERVER_DIED,
        hints.GPU_CRASH,
        "CUDA runtime errors 700, 715, 710, 719, 716, 214, 999; c10/cuda/CUDAException.cpp, triton",
    ),
    Pattern(
        ANY,
        r"NCCL error|DistBackendError|ncclUnhandled|ncclSystemError|custom_all_reduce\.cuh"
        r"|Watchdog caught collective operation timeout",
        Kind.GPU_COMMUNICATION,
        hints.COMM,
        "vllm 0.33.0 and sglang 0.5.23 pynccl_wrapper.py:464,474, torch ProcessGroupNCCL",
    ),
)
