"""Makes a Plan from a Config: the exact command, environment and levels of one trial. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.core import scenario as scenarios
from pipeline.core.errors import ConfigError
from pipeline.core.plan import Assets, LevelPlan, Plan
from pipeline.core.schema import Config
from pipeline.core.schema_backends import Container, Kubernetes
from pipeline.engines import purpose, server_command
from pipeline.models import ome_model


def make(config: Config, assets: Assets, *, sweep_id: str, number: int, run_dir: Path) -> Plan:
    """The plan of one trial, which has no slots yet.

    Raises:
        ConfigError: `runtime.command` asks for a placeholder that does not exist, there is no image, or OME cannot get
            the model from where it is said to be.
    """
    return Plan(
        trial_id=f"{sweep_id}/{number}",
        sweep_id=sweep_id,
        number=number,
        backend=config.backend.target,
        argv=server_command.argv(config, assets, run_dir),
        env=purpose.environment(config),
        secret_env=dict(config.runtime.secret_env),
        host=config.backend.host,
        run_dir=run_dir,
        model_path=assets.model_path,
        tokenizer_dir=assets.tokenizer_dir,
        served_name=server_command.request_name(config, assets, run_dir),
        health=config.runtime.health,
        settings_path=config.runtime.settings_path,
        tells=config.runtime.tells,
        cache_reset=config.runtime.cache_reset,
        stop_grace_s=config.runtime.stop_grace_s,
        keeper=config.backend.keeper,
        container=_container(config, assets),
        kubernetes=_kubernetes(config),
        ome_model=ome_model.of(config) if config.backend.kubernetes else None,
        gpus=config.gpus,
        gpu_vendor=config.hardware.vendor,
        levels=tuple(levels(config)),
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
    return int(scenarios.mean(scenario).output) if is_fixed else None


def levels(config: Config) -> Iterator[LevelPlan]:
    """Scenario by scenario, in `traffic.order`; every level has prompts of its own, the same in every trial."""
    traffic = config.traffic
    is_falling = traffic.order == "busiest_first"
    for row, scenario in enumerate(traffic.scenarios):
        for concurrency in sorted(set(traffic.concurrencies), reverse=is_falling):
            yield LevelPlan(
                scenario=scenario,
                concurrency=concurrency,
                max_requests=max(traffic.min_requests, traffic.requests_per_user * concurrency),
                max_time_s=traffic.max_time_per_level_s,
                drain_s=traffic.drain_s,
                seed=traffic.seed + 1_000_003 * row + concurrency,
                output_tokens_asked=scenarios.mean(scenario).output,
                output_tokens_exact=_exact(config, scenario),
            )
