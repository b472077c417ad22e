"""Makes a Plan from a Config: the exact command, environment and levels of one trial. Pure."""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.core import capacity, traffic_size
from pipeline.core.errors import ConfigError
from pipeline.core.plan import Assets, LevelPlan, Plan
from pipeline.core.schema import Config
from pipeline.core.schema_backends import Container, Kubernetes
from pipeline.core.schema_traffic import Traffic
from pipeline.engines import purpose, server_command
from pipeline.engines.endpoint import MODELS
from pipeline.models import ome_model


def make(config: Config, assets: Assets, *, sweep_id: str, number: int, run_dir: Path) -> Plan:
    """The plan of one trial, which has no slots yet.

    Raises:
        ConfigError: `runtime.command` asks for a placeholder that does not exist, there is no image, or OME cannot get
            the model from where it is said to be.
    """
    is_there = config.backend.is_endpoint
    return Plan(
        trial_id=f"{sweep_id}/{number}",
        sweep_id=sweep_id,
        number=number,
        backend=config.backend.target,
        argv=() if is_there else server_command.argv(config, assets, run_dir),
        env={} if is_there else purpose.environment(config),
        secret_env={} if is_there else dict(config.runtime.secret_env),
        host=config.backend.host,
        run_dir=run_dir,
        model_path=assets.model_path,
        tokenizer_dir=assets.tokenizer_dir,
        served_name=assets.served_name or server_command.request_name(config, assets, run_dir),
        health=replace(config.runtime.health, path=MODELS) if is_there else config.runtime.health,
        settings_path=config.runtime.settings_path,
        tells=config.runtime.tells,
        cache_reset="none" if is_there else config.runtime.cache_reset,  # others may be using it
        stop_grace_s=config.runtime.stop_grace_s,
        keeper=config.backend.keeper,
        url=config.backend.url,
        container=_container(config, assets),
        kubernetes=_kubernetes(config),
        ome_model=ome_model.of(config) if config.backend.kubernetes else None,
        gpus=config.gpus,
        gpu_vendor=config.hardware.vendor,
        levels=tuple(levels(config, of=f"{sweep_id}/{number}")),
        warmup_requests=config.traffic.warmup_requests,
    )


def _container(config: Config, assets: Assets) -> Container | None:
    container = config.backend.container
    if container is None:
        return None
    image = _image(config, container.image, "backend.container.image")
    # A snapshot in the hub's cache consists of links to the folder of its blobs
    model = assets.model_path
    mounted = model.parent.parent if model.parent.name == "snapshots" else model
    return replace(container, image=image, mounts=(str(mounted), *container.mounts))


def _kubernetes(config: Config) -> Kubernetes | None:
    kubernetes = config.backend.kubernetes
    if kubernetes is None:
        return None
    return replace(kubernetes, image=_image(config, kubernetes.image, "backend.kubernetes.image"))


def _image(config: Config, own: str | None, key: str) -> str:
    image = own or config.runtime.image
    if image is None:
        raise ConfigError(f"runtime={config.runtime.name} has no image: set {key}.")
    return image


def _exact(config: Config, scenario: str) -> int | None:
    """genai-bench sends `ignore_eos` to these (user/openai_user.py)."""
    is_fixed = scenario.startswith("D(") and config.runtime.api_backend in ("vllm", "sglang")
    return int(traffic_size.mean(config.traffic, scenario).output) if is_fixed else None


def _first(traffic: Traffic, demand: float) -> int:
    """Where in the order of a file's prompts a level begins: whatever the order of levels, no two overlap."""
    if capacity.is_wanted(traffic):
        return sum(traffic.requests(traffic.at(step)) for step in range(1, traffic.steps(demand)))
    return sum(traffic.requests(each) for each in set(traffic.demands) if each < demand)


def levels(config: Config, *, of: str = "") -> Iterator[LevelPlan]:
    """Scenario by scenario, in `traffic.order`; the first of each scenario where the capacity is looked for.

    `of`: as for `level`.
    """
    traffic = config.traffic
    is_falling = traffic.order == "busiest_first"
    for scenario in traffic.scenarios:
        if capacity.is_wanted(traffic):
            yield level(config, scenario, capacity.start(traffic, scenario, None), of=of)
            continue
        for demand in sorted(set(traffic.demands), reverse=is_falling):
            yield level(config, scenario, demand, of=of)


def level(config: Config, scenario: str, demand: float, *, of: str = "") -> LevelPlan:
    """One level. It has prompts, and times to send them, of its own, the same in every trial.

    A server that stays after a trial keeps its prefix cache, too: there each trial (`of`) has prompts of its own.
    """
    traffic = config.traffic
    number = 1 + zlib.crc32(f"{demand:g}".encode()) % 999_999 if traffic.is_open else int(demand)
    own = zlib.crc32(of.encode()) if config.backend.is_endpoint else 0
    return LevelPlan(
        scenario=scenario,
        concurrency=0 if traffic.is_open else int(demand),
        rate=demand if traffic.is_open else None,
        max_requests=traffic.requests(demand),
        first_prompt=_first(traffic, demand),
        max_time_s=traffic.max_time_per_level_s,
        drain_s=traffic.drain_s,
        seed=traffic.seed + own + 1_000_003 * traffic.scenarios.index(scenario) + number,
        output_tokens_asked=traffic_size.mean(traffic, scenario).output,
        output_tokens_exact=_exact(config, scenario),
    )
