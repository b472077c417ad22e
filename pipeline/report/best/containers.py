"""`docker run` and a compose file for the winner. Pure.

These containers carry no lease label: they belong to no trial, and servetune never removes them.
"""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from pipeline.backends import container
from pipeline.config import planning
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.plan import Plan
from pipeline.core.record import Record
from pipeline.core.schema import Backend, Config
from pipeline.core.values import parse
from pipeline.engines import purpose
from pipeline.models import assets
from pipeline.report.best.scripts import HEAD, command_line

NAME, PORT = "servetune-best", "8000"
LOOPBACK = "127.0.0.1"  # to be opened by whoever has put a key or a proxy before it
OWN = {"--name", "--label"}  # of a trial's container


def files(winner: Record) -> dict[str, str]:
    """Both files.

    Raises:
        ConfigError: the runtime has no image.
    """
    made = _planned(winner)
    return {"docker-run.sh": run_script(made), "compose.yaml": compose(made)}


def at(config: Config, name: str) -> Config:
    """The configuration on another backend, with that backend's defaults; its own settings where it is on it."""
    if config.backend.name == name:
        return config
    backend = parse(Backend, yaml.safe_load((CONF / "backend" / f"{name}.yaml").read_text("utf-8")))
    return replace(config, backend=backend)


def _planned(winner: Record) -> Plan:
    config = at(purpose.handed_over(winner.config), "docker")
    config = replace(config, backend=replace(config.backend, host=LOOPBACK))
    if config.runtime.python and winner.config.backend.name != "docker":
        config = replace(config, runtime=replace(config.runtime, python=None))
    made = planning.make(
        config,
        assets.expected(config.model, by_path=True),
        sweep_id=winner.sweep_id,
        number=winner.number,
        run_dir=Path("/tmp"),  # noqa: S108 - inside of the container
    )
    if digest := winner.deployment.get("image_digest"):
        made = replace(made, container=replace(container.of(made), image=digest))
    return made


def run_script(made: Plan) -> str:
    """`docker run` as it was, under a name of its own."""
    words = shlex.split(container.run_line(made, NAME, _argv(made), PORT))
    kept = []
    taken = iter(words)
    for word in taken:
        if word in OWN:
            next(taken)
        else:
            kept.append(word)
    command = command_line(("docker", "run", "--name", NAME, *kept[2:]), {})
    return f"{HEAD}# Stop it with: docker rm -f {NAME}\nexec {command}\n"


def compose(made: Plan) -> str:
    """The same as a service; Compose's own $ are doubled. Source: docs.docker.com, Compose file reference."""
    box, (program, *args) = container.of(made), _argv(made)
    service: dict[str, Any] = {
        "image": box.image,
        "entrypoint": [_literal(program)],
        "command": [_literal(word) for word in args],
        "init": True,
        "security_opt": ["no-new-privileges"],
        "shm_size": f"{box.shm_size_gib:g}g",
        "ulimits": dict(container.limits(box)),
        "volumes": [
            {"type": "bind", "source": here, "target": inside, "read_only": is_read_only}
            for here, inside, is_read_only in container.mounts(box)
        ],
        "environment": [*(f"{name}={_literal(text)}" for name, text in made.env.items()), *made.secret_env],
        **dict(_network(made)),
        **dict(_limits(made)),
    }
    kept = {name: item for name, item in service.items() if item not in ([], {})}
    return yaml.safe_dump({"services": {"engine": kept}}, sort_keys=False)


def _network(made: Plan) -> Iterator[tuple[str, Any]]:
    box = container.of(made)
    if box.network == "bridge":
        yield "ports", [f"{made.host}:{PORT}:{PORT}"]
    else:
        yield "network_mode", box.network


def _limits(made: Plan) -> Iterator[tuple[str, Any]]:
    box = container.of(made)
    if box.memory_gib:
        yield "mem_limit", f"{box.memory_gib:g}g"
    if made.gpus and made.gpu_vendor == "nvidia":
        asked = {"driver": "nvidia", "count": made.gpus, "capabilities": ["gpu"]}
        yield "deploy", {"resources": {"reservations": {"devices": [asked]}}}
    if made.gpus and made.gpu_vendor == "amd":
        yield "devices", [*container.AMD_DEVICES]
        yield "group_add", ["video"]


def _argv(made: Plan) -> list[str]:
    if made.container is None:
        raise ConfigError("The configuration has no container.")
    return [word.replace("{port}", PORT) for word in made.argv]


def _literal(word: str) -> str:
    return word.replace("$", "$$")
