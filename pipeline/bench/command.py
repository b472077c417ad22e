"""genai-bench's command line and environment for one level. Pure. Source: genai-bench 0.0.5, cli/option_groups.py.

The order of options matters there: callbacks read what was parsed before them.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from pipeline.bench import Job
from pipeline.core.files import RunDir
from pipeline.core.plan import LevelPlan, Plan
from pipeline.core.schema import Config

PLACEHOLDER_KEY = "none"  # genai-bench refuses to start without one
CONSOLE = "console.log"
OFFLINE = {
    "ENABLE_UI": "false",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "agg",
}


def job(config: Config, plan: Plan, level: LevelPlan, *, url: str, label: str) -> Job:
    """The call that measures `level` on the server at `url`; results go to the level's own folder."""
    folder = RunDir(plan.run_dir).level(level.scenario, level.concurrency)
    return Job(
        argv=argv(config, plan, level, url, folder.resolve()),
        label=label,
        folder=folder,
        seed=level.seed,
        users=level.concurrency,
        max_requests=level.max_requests,
        max_time_s=level.max_time_s,
        drain_s=level.drain_s,
        timeout_s=level.max_time_s + level.drain_s + config.bench.level_grace_s,
    )


def argv(config: Config, plan: Plan, level: LevelPlan, url: str, folder: Path) -> tuple[str, ...]:
    """`benchmark ...`. genai-bench counts time in whole minutes; the resident runner keeps to the second."""
    hardware = config.hardware
    options = {
        "api-backend": config.runtime.api_backend,
        "api-base": url,
        "api-key": PLACEHOLDER_KEY,
        "api-model-name": plan.served_name,
        "task": "text-to-text",
        "model-tokenizer": str(plan.tokenizer_dir),
        "model": plan.served_name,
        "iteration-type": "num_concurrency",
        "num-concurrency": str(level.concurrency),
        "traffic-scenario": level.scenario,
        "max-time-per-run": str(math.ceil(level.max_time_s / 60)),
        "max-requests-per-run": str(level.max_requests),
        "metrics-time-unit": "s",
        "server-engine": config.runtime.server_engine,
        "server-gpu-count": str(config.gpus),
        **({"server-gpu-type": hardware.gpu_type} if hardware.gpu_type else {}),
        "experiment-base-dir": str(folder.parent),
        "experiment-folder-name": folder.name,
        "log-dir": str(folder),
    }
    return ("benchmark", *(word for name, item in options.items() for word in (f"--{name}", item)))


def environment(base: Mapping[str, str], host: str = "127.0.0.1") -> dict[str, str]:
    """`base` with what keeps genai-bench off the terminal, off the network and off a proxy."""
    hosts = ",".join(filter(None, [base.get("NO_PROXY"), host, "localhost"]))
    return {**base, **OFFLINE, "NO_PROXY": hosts, "no_proxy": hosts}
