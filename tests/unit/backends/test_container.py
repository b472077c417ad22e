"""The `docker run` line of a trial, and what may still run when nobody can be asked."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import make_plan
from pipeline.backends import container
from pipeline.config import planning
from pipeline.core import plan as plans
from pipeline.core.errors import ConfigError
from pipeline.core.plan import Assets, Plan, Slots
from pipeline.core.schema_backends import Container
from support.records import CONFIG, make_config


def boxed(**changes: Any) -> Plan:
    box = Container(image="engine:1", shm_size_gib=2, mounts=("/models/m",))
    return replace(make_plan(Path("/out/0")), container=replace(box, **changes), env={"A": "b c"})


def line(plan: Plan) -> list[str]:
    return shlex.split(container.run_line(plan, "s-0-ab", ["python3", "-m", "engine", "--port", "8123"], 8123))


def test_the_line_starts_the_engine_and_nothing_else() -> None:
    assert line(boxed()) == [
        "docker", "run", "--name", "servetune-s-0-ab", "--label", "servetune.lease=s-0-ab", "--init",
        "--network", "bridge", "--security-opt", "no-new-privileges", "--shm-size", "2g",
        "-p", "127.0.0.1:8123:8123", "--mount", "type=bind,source=/models/m,target=/models/m,readonly", "-e", "A=b c",
        "--entrypoint", "python3", "engine:1", "-m", "engine", "--port", "8123",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory_gib": 1.5}, ["--memory", "1.5g"]),
        ({"mounts": ["/a:/b"]}, ["--mount", "type=bind,source=/a,target=/b,readonly"]),
        ({"mounts": [], "writable_mounts": ["/a"]}, ["--mount", "type=bind,source=/a,target=/a"]),
        ({"ulimits": {"memlock": -1}}, ["--ulimit", "memlock=-1"]),
        ({"network": "host"}, ["--network", "host"]),
    ],
)
def test_what_is_asked_stands_in_the_line(changes: dict[str, Any], words: list[str]) -> None:
    found = line(boxed(**changes))
    assert words == found[found.index(words[0]) :][: len(words)]
    assert ("-p" in found) == (changes.get("network") != "host")


@pytest.mark.parametrize(
    ("ids", "words"), [((), ["--gpus", "2"]), (("4", "5"), ["--gpus", '"device=4,5"'])], ids=["count", "ids"]
)
def test_gpus_are_asked_for_by_number_or_by_name(ids: tuple[str, ...], words: list[str]) -> None:
    found = line(replace(boxed(), gpus=2, slots=Slots(gpu_ids=ids), gpu_vendor="nvidia"))
    assert found[found.index("--gpus") :][:2] == words


def test_cores_stand_in_the_line() -> None:
    found = line(replace(boxed(), slots=Slots(cores=(2, 3))))
    assert found[found.index("--cpuset-cpus") + 1] == "2,3"


def test_amd_gpus_come_as_devices_and_by_a_variable() -> None:
    planned = replace(boxed(), gpus=2, gpu_vendor="amd")
    found = line(plans.with_slots(planned, Slots(gpu_ids=("4", "5"))))
    assert "HIP_VISIBLE_DEVICES=4,5" in found
    assert [found[spot + 1] for spot, word in enumerate(found) if word == "--device"] == ["/dev/kfd", "/dev/dri"]
    assert "--gpus" not in found


def test_a_secret_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVETUNE_API_KEY", "sk-very-secret")
    found = line(replace(boxed(), secret_env={"VLLM_API_KEY": "SERVETUNE_API_KEY"}))
    assert found[found.index("VLLM_API_KEY") - 1] == "-e"
    assert "sk-very-secret" not in " ".join(found)


def docker_config(**box: Any) -> Any:
    backend = {"name": "docker", "target": "pipeline.backends.docker.Docker", "container": box}
    return make_config(backend=backend, runtime={**CONFIG["runtime"], "command": ["{python}", "--host", "{host}"]})


def test_the_model_is_mounted_where_it_lies() -> None:
    assets = Assets(model_path=Path("/models/mine"), tokenizer_dir=Path("/models/mine"))
    made = planning.make(docker_config(image="e:1"), assets, sweep_id="s", number=0, run_dir=Path("/out/0"))
    assert made.container is not None
    assert made.container.mounts == ("/models/mine",)
    assert made.argv[:3] == ("python3", "--host", "0.0.0.0")


def test_a_snapshot_is_mounted_with_the_blobs_that_it_links_to() -> None:
    path = Path("/hub/models--a--b/snapshots/abc")
    assets = Assets(model_path=path, tokenizer_dir=path)
    made = planning.make(docker_config(image="e:1"), assets, sweep_id="s", number=0, run_dir=Path("/out/0"))
    assert made.container is not None
    assert made.container.mounts == ("/hub/models--a--b",)


def test_a_runtime_without_an_image_needs_one() -> None:
    assets = Assets(model_path=Path("/m"), tokenizer_dir=Path("/m"))
    with pytest.raises(ConfigError, match=r"has no image: set backend\.container\.image"):
        planning.make(docker_config(), assets, sweep_id="s", number=0, run_dir=Path("/out/0"))
