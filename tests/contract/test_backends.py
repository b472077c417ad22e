"""What every backend of conf/backend/ does with a server: start, watch, tell its death, remove it, look."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from pipeline import backends
from pipeline.backends import Backend, Deployment, lease, teardown
from pipeline.core.errors import DeployFailed
from pipeline.core.files import RunDir
from pipeline.core.plan import Plan
from pipeline.core.schema_engine import Health
from pipeline.core.values import load
from pipeline.machine import process
from support.places import TESTS

# Those elsewhere than on this host are held against the same words in tests/live/docker and tests/live/kube; one that
# starts nothing has tests/unit/backends/test_endpoint.py
FILES = sorted((TESTS.parent / "conf" / "backend").glob("*.yaml"))
BACKENDS = [path for path in FILES if not {"container", "kubernetes", "url"} & {*yaml.safe_load(path.read_text())}]
ENGINE = (sys.executable, str(TESTS / "fakes" / "stub_engine.py"), "--port", "{port}")
Deploy = Callable[..., Deployment]


@pytest.fixture(params=BACKENDS, ids=lambda path: path.stem)
def target(request: pytest.FixtureRequest) -> str:
    return str(yaml.safe_load(request.param.read_text())["target"])


@pytest.fixture
def backend(target: str) -> Backend:
    return backends.load(target)


@pytest.fixture
def plan(target: str, tmp_path: Path) -> Plan:
    run_dir = tmp_path / "sweep" / "0"
    run_dir.mkdir(parents=True)
    return Plan(
        trial_id="sweep/0",
        sweep_id="sweep",
        number=0,
        backend=target,
        argv=ENGINE,
        env={"OF_THE_PLAN": "1"},
        secret_env={"ENGINE_KEY": "SERVETUNE_API_KEY"},
        host="127.0.0.1",
        run_dir=run_dir,
        model_path=tmp_path,
        tokenizer_dir=tmp_path,
        served_name="tiny",
        health=Health(path="/health", timeout_s=5, interval_s=0.05),
        settings_path=None,
        cache_reset="none",
        stop_grace_s=0.5,
        keeper=False,
        levels=(),
        warmup_requests=0,
    )


@pytest.fixture
def deploy(backend: Backend, plan: Plan) -> Iterator[Deploy]:
    """Deploy the plan, with changes; all is taken down at the end."""
    made = []

    def start(**changes: Any) -> Deployment:
        own = replace(plan, **changes)
        owned = lease.make(own)
        lease.update(owned)
        made.append(owned)
        return backend.deploy(own, owned)

    yield start
    for owned in made:
        teardown.run(lease.current(owned), by="trial")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_backend_has_all_that_a_backend_does(path: Path) -> None:
    made = backends.load(str(yaml.safe_load(path.read_text())["target"]))
    names = [name for name, what in vars(Backend).items() if callable(what) and not name.startswith("_")]
    assert names
    assert [name for name in names if not callable(getattr(made, name, None))] == []


def ready(backend: Backend, deployment: Deployment) -> bool:
    return process.wait_until(lambda: backend.owns_listener(deployment), timeout_s=180)


def environment(deployment: Deployment) -> dict[str, str]:
    (engine,) = process.labelled(deployment.lease.label)
    return engine.environ()


def test_a_deployed_server_listens_and_carries_its_label(backend: Backend, deploy: Deploy) -> None:
    deployment = deploy()
    assert ready(backend, deployment)
    assert deployment.url.endswith(f":{deployment.port}")
    assert [one.pid for one in process.labelled(deployment.lease.label)] == [deployment.pid]
    assert backend.teardown(deployment.lease) == ()
    assert process.labelled(deployment.lease.label) == ()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", deployment.port))


@pytest.mark.parametrize(
    ("signum", "words"), [(signal.SIGKILL, "killed by SIGKILL"), (signal.SIGTERM, "killed by SIGTERM")]
)
def test_tells_how_a_server_was_killed(signum: signal.Signals, words: str, backend: Backend, deploy: Deploy) -> None:
    deployment = deploy()
    assert ready(backend, deployment)
    assert backend.death(deployment) is None
    assert deployment.pid is not None
    os.kill(deployment.pid, signum)
    assert process.wait_until(lambda: backend.death(deployment) == words, timeout_s=180)


def test_tells_the_exit_code_of_a_server(backend: Backend, deploy: Deploy) -> None:
    deployment = deploy(argv=(sys.executable, "-c", "raise SystemExit(7)"))
    assert process.wait_until(lambda: backend.death(deployment) == "exit code 7", timeout_s=180)


def test_does_not_take_somebody_elses_listener_for_ours(backend: Backend, deploy: Deploy) -> None:
    deployment = deploy(argv=(sys.executable, "-c", "import time; time.sleep(60)"))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", deployment.port))
        other.listen()
        assert not backend.owns_listener(deployment)


def test_teardown_may_be_called_again(backend: Backend, deploy: Deploy) -> None:
    deployment = deploy()
    assert [backend.teardown(deployment.lease) for _ in range(3)] == [(), (), ()]


def test_teardown_of_what_was_never_started_finds_nothing(backend: Backend, plan: Plan) -> None:
    assert backend.teardown(lease.make(plan)) == ()


def test_teardown_removes_a_half_made_deployment(backend: Backend, plan: Plan, deploy: Deploy) -> None:
    deployment = deploy()
    assert backend.teardown(replace(deployment.lease, port=None, pid=None)) == ()
    assert process.labelled(deployment.lease.label) == ()


def test_a_program_that_cannot_be_started_leaves_nothing(backend: Backend, plan: Plan) -> None:
    owned = lease.make(plan)
    lease.update(owned)
    with pytest.raises(DeployFailed, match="Cannot start /no/such/program"):
        backend.deploy(replace(plan, argv=("/no/such/program",)), owned)
    assert teardown.run(lease.current(owned), by="trial").is_clean


def test_names_what_it_cannot_remove(deploy: Deploy, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DYING_S", 0.2)
    deployment = deploy()
    backend.teardown(deployment.lease)
    with socket.create_server(("127.0.0.1", deployment.port)):
        outcome = teardown.run(deployment.lease, by="trial")
    assert outcome.remaining == (f"something still listens on port {deployment.port}",)
    assert lease.registered(deployment.lease.label).exists()
    assert teardown.run(deployment.lease, by="trial").is_clean
    assert not lease.registered(deployment.lease.label).exists()


def test_the_lease_is_on_disk_before_the_process_is(
    backend: Backend, deploy: Deploy, plan: Plan, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    look = (
        "import glob, os, shutil, sys\n"
        "shutil.copy(*glob.glob(os.environ['SERVETUNE_STATE_DIR'] + '/leases/*.json'), sys.argv[1])"
    )
    deployment = deploy(argv=(sys.executable, "-c", look, str(seen)))
    assert process.wait_until(lambda: backend.death(deployment) == "exit code 0", timeout_s=180)
    early = load(lease.Lease, seen)
    assert (early.label, early.port) == (deployment.lease.label, deployment.port)
    assert load(lease.Lease, RunDir(plan.run_dir).lease).pid == deployment.pid


def test_the_engine_gets_the_plans_environment_the_secret_and_the_label(
    deploy: Deploy, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVETUNE_API_KEY", "secret-of-the-user")
    deployment = deploy()
    found = environment(deployment)
    assert (found["OF_THE_PLAN"], found["ENGINE_KEY"]) == ("1", "secret-of-the-user")
    assert found[process.LABEL] == deployment.lease.label
    assert "secret-of-the-user" not in RunDir(plan.run_dir).lease.read_text()


def test_stdout_and_stderr_are_in_the_server_log(backend: Backend, deploy: Deploy, plan: Plan) -> None:
    talk = "import sys; print('to stdout', flush=True); sys.exit('to stderr')"
    deployment = deploy(argv=(sys.executable, "-c", talk))
    assert process.wait_until(lambda: backend.death(deployment) == "exit code 1", timeout_s=180)
    assert RunDir(plan.run_dir).server_log.read_text() == "to stdout\nto stderr\n"


def test_two_deployments_get_two_ports(backend: Backend, deploy: Deploy) -> None:
    first, second = deploy(), deploy()
    assert first.port != second.port
    assert ready(backend, first)
    assert ready(backend, second)
    assert backend.teardown(first.lease) == ()
    assert backend.owns_listener(second)


def test_nobody_else_is_given_the_port_meanwhile(backend: Backend, deploy: Deploy) -> None:
    deployment = deploy(argv=(*ENGINE, "--load-s", "0.5"))
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", deployment.port))
    with contextlib.ExitStack() as many:
        given = [many.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(300)]
    assert deployment.port not in given
    assert ready(backend, deployment)


def test_the_engine_holds_no_file_of_ours(backend: Backend, deploy: Deploy, plan: Plan) -> None:
    with (plan.run_dir / "ours").open("w"):
        deployment = deploy()
        assert ready(backend, deployment)
        files = [file.path for file in psutil.Process(deployment.pid).open_files()]
    assert set(files) <= {str(RunDir(plan.run_dir).server_log)}
