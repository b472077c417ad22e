"""A level by aiperf 0.13, where it is installed, for benchmarks/fidelity.py.

Source: https://docs.nvidia.com/aiperf/reference/command-line-options, and its profile_export_aiperf.json.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

PROGRAM = "aiperf"


def measure(
    url: str, users: int, folder: Path, tokenizer: Path, *, tokens: int, requests: int
) -> tuple[float, float, float, float]:
    """Prompts of 24 tokens, answers of `tokens`: mean and p95 of TTFT and mean ITL in seconds; tokens per second.

    Raises:
        RuntimeError: it failed; the message is its first error.
    """
    given = {
        "url": url, "model": "tiny", "tokenizer": str(tokenizer), "endpoint-type": "chat",
        "concurrency": str(users), "request-count": str(requests), "artifact-dir": str(folder),
        "synthetic-input-tokens-mean": "24", "synthetic-input-tokens-stddev": "0",
        "output-tokens-mean": str(tokens), "output-tokens-stddev": "0", "ui": "none",
    }  # fmt: skip
    flags = [word for name, text in given.items() for word in (f"--{name}", text)]
    env = {**os.environ, "NO_PROXY": "127.0.0.1,localhost"}
    argv = [PROGRAM, "profile", *flags, "--streaming"]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        raise RuntimeError(next((line for line in lines if "ERROR" in line), f"exit code {done.returncode}"))
    found: dict[str, Any] = json.loads((folder / "profile_export_aiperf.json").read_text("utf-8"))
    ttft = found["time_to_first_token"]
    tpot, speed = found["inter_token_latency"]["avg"] / 1000, found["output_token_throughput"]["avg"]
    return ttft["avg"] / 1000, ttft["p95"] / 1000, tpot, speed
