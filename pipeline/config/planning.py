"""Makes a Plan from a Config: the exact command, environment and levels of one trial. Pure."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.core import scenario as scenarios
from pipeline.core.errors import ConfigError
from pipeline.core.plan import Assets, LevelPlan, Plan
from pipeline.core.schema import Config, Knob
from pipeline.core.schema_backends import Container, Kubernetes
from pipeline.core.values import Scalar
from pipeline.models import ome_model

INSIDE = "0.0.0.0"  # noqa: S104 - a container's own address; the port is published on backend.host


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
        argv=argv(config, assets, run_dir),
        env=dict(config.runtime.env),
        secret_env=dict(config.runtime.secret_env),
        host=config.backend.host,
        run_dir=run_dir,
        model_path=assets.model_path,
        tokenizer_dir=assets.tokenizer_dir,
        served_name=config.model.served_name,
        health=config.runtime.health,
        settings_path=config.runtime.settings_path,
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


def argv(config: Config, assets: Assets, run_dir: Path) -> tuple[str, ...]:
    """The server's command line; {port} is filled in later.

    Raises:
        ConfigError: an unknown placeholder in `runtime.command`.
    """
    inside = config.backend.container or config.backend.kubernetes
    words = {
        "python": inside.python if inside else str(config.runtime.python or sys.executable),
        "model": str(assets.model_path),
        "served_name": config.model.served_name,
        "host": INSIDE if inside else config.backend.host,
        "port": "{port}",
        "run_dir": str(run_dir),
    }
    try:
        command = tuple(part.format_map(words) for part in config.runtime.command)
    except (KeyError, ValueError, IndexError) as error:
        known = ", ".join(f"{{{word}}}" for word in words)
        raise ConfigError(f"runtime.command: unknown placeholder {error}; expected {known}.") from error
    return (*command, *flags(config), *config.runtime.extra_args)


def flags(config: Config) -> tuple[str, ...]:
    """The flags of every knob that is set, in the order of the runtime's file."""
    runtime = config.runtime
    words = (_words(knob, config.knobs.get(name), runtime.version) for name, knob in runtime.knobs.items())
    return tuple(word for some in words for word in some)


def _words(knob: Knob, setting: Scalar | None, version: str | None) -> tuple[str, ...]:
    if setting is None:
        return ()
    if knob.kind == "bool":
        flag = knob.spelled(version) if setting else knob.false_flag
        return (flag,) if flag else ()
    return (knob.spelled(version), str(setting))


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
                seed=traffic.seed + 1_000_003 * row + concurrency,
                output_tokens_asked=scenarios.mean(scenario).output,
            )
