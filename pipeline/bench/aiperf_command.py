"""aiperf's command line for one level. Pure.

Source: https://docs.nvidia.com/aiperf/reference/command-line-options, aiperf 0.13.0.
"""

from pathlib import Path

from pipeline.bench.aiperf_export import REQUESTS
from pipeline.core import scenario
from pipeline.core.plan import LevelPlan, Plan
from pipeline.core.schema import Config

PROGRAM, VERSION = "aiperf", "0.13.0"
INSTALL = f"uv venv aiperf && uv pip install --python aiperf aiperf=={VERSION}"
IGNORING = ("vllm", "sglang")  # servers that are told to go on past the end of the text, as genai-bench tells them


def argv(config: Config, plan: Plan, level: LevelPlan, url: str, folder: Path) -> tuple[str, ...]:
    """`profile ...`, with results in `folder`."""
    options = {
        "url": url,
        "model": plan.served_name,
        "tokenizer": str(plan.tokenizer_dir),
        "endpoint-type": "chat",
        "input-file": str(folder / REQUESTS),
        "custom-dataset-type": "mooncake_trace",
        "dataset-sampling-strategy": "sequential",
        "request-count": str(level.max_requests),
        "benchmark-duration": f"{level.max_time_s:g}",
        "benchmark-grace-period": f"{level.drain_s:g}",
        "random-seed": str(level.seed),
        "artifact-dir": str(folder),
        "ui": "none",
        **({} if level.rate else {"concurrency": str(level.concurrency)}),
    }
    inputs = ["temperature:0.0", *(["ignore_eos:true"] if config.runtime.api_backend in IGNORING else [])]
    switches = ["streaming", "use-legacy-max-tokens", "use-server-token-count", "no-gpu-telemetry", "no-server-metrics"]
    switches += ["fixed-schedule"] if level.rate else []
    return (
        "profile",
        *(word for name, item in options.items() for word in (f"--{name}", item)),
        *(word for item in inputs for word in ("--extra-inputs", item)),
        *(f"--{name}" for name in switches),
    )


def lengths(level: LevelPlan) -> tuple[tuple[int, int], ...]:
    """The tokens of each prompt and answer of the level; the same in every trial."""
    return scenario.drawn(level.scenario, level.max_requests, seed=level.seed)
