"""What a backend does with a server that it has not started: it finds it, and leaves it as it was."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from fakes.openai_server import OpenAI, serving
from pipeline import backends
from pipeline.backends import Backend, lease, teardown
from pipeline.config import planning
from pipeline.config.endpoints import TARGET
from pipeline.core.errors import DeployFailed
from pipeline.core.files import RunDir
from pipeline.core.plan import Assets, Plan
from pipeline.core.schema import Config
from support.records import make_config


@pytest.fixture
def server() -> Iterator[OpenAI]:
    with serving() as running:
        yield running


@pytest.fixture
def config(server: OpenAI) -> Config:
    made = make_config()
    return replace(made, backend=replace(made.backend, target=TARGET, url=server.url, keeper=False))


@pytest.fixture
def plan(config: Config, tmp_path: Path) -> Plan:
    run_dir = tmp_path / "sweep" / "0"
    run_dir.mkdir(parents=True)
    files = Assets(model_path=Path("tiny"), tokenizer_dir=tmp_path, served_name="tiny")
    return planning.make(config, files, sweep_id="sweep", number=0, run_dir=run_dir)


@pytest.fixture
def backend() -> Backend:
    return backends.load(TARGET)


def test_the_plan_starts_nothing_and_asks_for_nothing_but_v1(plan: Plan, server: OpenAI) -> None:
    assert (plan.argv, plan.env, plan.secret_env, plan.cache_reset) == ((), {}, {}, "none")
    assert (plan.url, plan.served_name, plan.health.path) == (server.url, "tiny", "/v1/models")


def test_deploys_what_is_there_and_tears_nothing_down(backend: Backend, plan: Plan, server: OpenAI) -> None:
    owned = lease.make(plan)
    lease.update(owned)
    deployment = backend.deploy(plan, owned)
    assert (deployment.url, deployment.port, deployment.pid) == (server.url, server.server_port, None)
    assert deployment.facts == {"endpoint": server.url, "served_name": "tiny"}
    assert backend.owns_listener(deployment)
    assert (backend.death(deployment), backend.condition(deployment)) == (None, None)
    outcome = teardown.run(lease.current(owned), by="trial")
    assert outcome.is_clean
    assert outcome.removed == ()
    assert not lease.registered(owned.label).exists()
    assert requests.get(f"{server.url}/v1/models", timeout=10).ok


def test_in_place_of_a_log_there_is_a_line(backend: Backend, plan: Plan) -> None:
    backend.deploy(plan, lease.make(plan))
    assert "nothing was deployed, and nothing torn down" in RunDir(plan.run_dir).server_log.read_text()


def test_the_port_of_a_url_without_one_is_that_of_its_scheme(backend: Backend, plan: Plan) -> None:
    for url, port in (("http://h", 80), ("https://h/x", 443), ("https://h:8443", 8443)):
        assert backend.deploy(replace(plan, url=url), lease.make(plan)).port == port


def test_a_plan_without_a_url_is_refused(backend: Backend, plan: Plan) -> None:
    with pytest.raises(DeployFailed, match=r"needs backend\.url"):
        backend.deploy(replace(plan, url=None), lease.make(plan))


def test_a_folder_that_cannot_be_written_is_named(backend: Backend, plan: Plan) -> None:
    owned = lease.make(plan)
    with pytest.raises(DeployFailed, match="cannot be written"):
        backend.deploy(replace(plan, run_dir=plan.run_dir / "none"), owned)


def test_checks_the_server_and_knows_no_gpus(backend: Backend, config: Config) -> None:
    ((name, check),) = backend.checks(config)
    assert (name, check(config)) == ("endpoint", f"{config.backend.url} serves tiny")
    assert backend.gpus(config) == ()


def test_a_server_that_stays_gets_other_prompts_in_each_trial(config: Config) -> None:
    """Its prefix cache stays, too."""
    first, again, second = (
        [level.seed for level in planning.levels(config, of=trial)] for trial in ("s/0", "s/0", "s/1")
    )
    assert first == again
    assert not set(first) & set(second)


def test_a_server_of_our_own_gets_the_same(config: Config) -> None:
    own = replace(config, backend=replace(config.backend, url=None))
    assert [*planning.levels(own, of="s/0")] == [*planning.levels(own, of="s/1")]
