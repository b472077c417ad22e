"""genai-bench's command line and environment for one level. Pure. Source: genai-bench 0.0.5, cli/option_groups.py.

The order of options matters there: callbacks read what was parsed before them.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.bench import Job, aiperf_command
from pipeline.core import arrivals
from pipeline.core.files import RunDir
from pipeline.core.plan import LevelPlan, Plan
from pipeline.core.schema import Config
from pipeline.core.schema_traffic import Traffic
from pipeline.prompts import arrival_trace

PLACEHOLDER_KEY = "none"  # genai-bench refuses to start without one
CONSOLE = "console.log"
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
OFFLINE = {
    "NETRC": os.devnull,  # requests would send a password of ~/.netrc in place of the server's key
    "ENABLE_UI": "false",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "agg",
}


def job(config: Config, plan: Plan, level: LevelPlan, *, url: str, label: str) -> Job:
    """The call of genai-bench or aiperf that measures `level` on the server at `url`; results go to its own folder."""
    folder = RunDir(plan.run_dir).level(level.scenario, level.folder)
    is_aiperf = config.bench.runner == "aiperf"
    return Job(
        argv=(aiperf_command.argv if is_aiperf else argv)(config, plan, level, url, folder.resolve()),
        lengths=aiperf_command.lengths(level) if is_aiperf else (),
        label=label,
        folder=folder,
        seed=level.seed,
        users=max(1, level.concurrency),
        max_requests=level.max_requests,
        max_time_s=level.max_time_s,
        drain_s=level.drain_s,
        timeout_s=level.max_time_s + level.drain_s + config.bench.level_grace_s,
        rate=level.rate,
        times=schedule(config.traffic, level),
        max_in_flight=config.traffic.max_in_flight if level.rate else None,
        workers=None if config.bench.workers == "auto" else config.bench.workers,
    )


def schedule(traffic: Traffic, level: LevelPlan) -> tuple[float, ...]:
    """When each request of a level at a rate is sent, in seconds since it began; empty for other levels.

    Raises:
        ConfigError: the file of arrival times cannot be read any more, or is another one.
    """
    if level.rate is None or traffic.arrival == "closed":
        return ()
    recorded = arrival_trace.times(traffic) if traffic.arrival == "trace" else ()
    return arrivals.times(traffic.arrival, level.rate, level.max_requests, seed=level.seed, recorded=recorded)


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
        "num-concurrency": str(max(1, level.concurrency)),
        "traffic-scenario": level.scenario,
        "max-time-per-run": str(math.ceil(level.max_time_s / 60)),
        "max-requests-per-run": str(level.max_requests),
        "metrics-time-unit": "s",
        "server-engine": config.runtime.server_engine,
        "server-gpu-count": str(config.gpus),
        **({"server-gpu-type": hardware.gpu_type} if hardware.gpu_type else {}),
        **_prefix(config),
        "experiment-base-dir": str(folder.parent),
        "experiment-folder-name": folder.name,
        "log-dir": str(folder),
    }
    return ("benchmark", *(word for name, item in options.items() for word in (f"--{name}", item)))


def _prefix(config: Config) -> dict[str, str]:
    """genai-bench's own shared prefix: one, and the same at every level. The resident runner makes its own."""
    traffic = config.traffic
    if config.bench.hides_key or not traffic.has_prefix:
        return {}
    if traffic.prefix_ratio is not None:
        return {"prefix-ratio": str(traffic.prefix_ratio)}
    return {"prefix-len": str(traffic.prefix_tokens)}


def environment(base: Mapping[str, str], host: str = "127.0.0.1") -> dict[str, str]:
    """`base` with what keeps genai-bench off the terminal, off the network and off a proxy."""
    hosts = ",".join(filter(None, [base.get("NO_PROXY"), host, "localhost"]))
    direct = {name: text for name, text in base.items() if name.lower() not in PROXIES}
    return {**direct, **OFFLINE, "NO_PROXY": hosts, "no_proxy": hosts}
