"""Log lines and tracebacks as the engines print them. No frame is real: only the last lines are read by anyone."""

import os
import sys
import time

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB "
    "of which 98.00 MiB is free. Process 387746 has 78.89 GiB memory in use. Of the allocated memory 70.12 GiB is "
    "allocated by PyTorch, and 765.81 MiB is reserved by PyTorch but unallocated."
)
DEAD = "RuntimeError: CUDA error: an illegal memory access was encountered"
_FRAMES = {
    "sglang": '  File "sglang/srt/managers/scheduler.py", line 6340, in run_scheduler_process',
    "vllm": '  File "vllm/v1/engine/core.py", line 1560, in run_engine_core',
}


def say(line: str) -> None:
    """One line, at once."""
    print(line, file=sys.stderr, flush=True)


def sglang(text: str, rank: str = "") -> None:
    """`[2026-11-02 08:26:20 TP0] text`."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    say(f"[{stamp} {rank}] {text}" if rank else f"[{stamp}] {text}")


def vllm(text: str, *, level: str = "INFO", who: str = "APIServer") -> None:
    """`(APIServer pid=1) INFO 11-02 08:26:01 [core.py:1584] text`, line by line."""
    stamp = time.strftime("%m-%d %H:%M:%S")
    vllm_plain(*(f"{level} {stamp} [standin.py:1] {line}" for line in text.splitlines()), who=who)


def vllm_plain(*lines: str, who: str = "APIServer") -> None:
    """`(APIServer pid=1) text`: what is printed past the logger."""
    for line in lines:
        say(f"({who} pid={os.getpid()}) {line}")


def traceback(engine: str, error: str) -> str:
    """A traceback with one frame."""
    return f"Traceback (most recent call last):\n{_FRAMES[engine]}\n{error}"
