"""A Docker daemon that restarts, hangs or stays away, at every step that needs it; and what is nobody's business."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from docker import DockerClient
from docker.models.containers import Container

from parts.dockerd import Dockerd
from pipeline.backends import container
from pipeline.core.errors import FailureKind
from pipeline.machine import process
from support.places import ROOT
from support.world import Launch, Tell, Trial, registered
from teardown.test_hard_cases import paused_bench, reap
from teardown.test_matrix import Row, check

pytestmark = pytest.mark.parametrize("place", ["docker"], indirect=True)
AWAY_S = 1.5
IMPATIENT = {"PATIENCE_S": 1.0, "LOOK_S": 0.5}
IMPATIENT_REAPER = (
    "import sys; from pipeline import reap; from pipeline.backends import container_removal; "
    "container_removal.PATIENCE_S = 1.0; sys.exit(reap.main([]))"
)
WAYS: dict[str, Callable[[Dockerd], None]] = {"hangs": Dockerd.pause, "is-down": Dockerd.stop_hard}
away = pytest.mark.parametrize("go", WAYS.values(), ids=WAYS)
Go = Callable[[Dockerd], None]


@pytest.fixture(autouse=True)
def bystander(dockerd: Dockerd, client: DockerClient, image: str) -> Iterator[Container]:
    """Somebody else's container, named as ours are: at the end it is the only one, and the same."""
    sleep = ["-c", "import signal; signal.pause()"]
    name = container.name("not-ours")
    other = client.containers.run(image, sleep, entrypoint=["python3"], name=name, detach=True, init=True)
    yield other
    dockerd.restore()
    found = [one.id for one in client.containers.list(all=True, ignore_removed=True)]
    other.remove(force=True)
    assert found == [other.id]


def orphaned(launch: Launch, dockerd: Dockerd, go: Go) -> Trial:
    """A trial that ended while the daemon was away; without a keeper."""
    trial = launch("backend.keeper=false", faults={"teardown": "pause"}, constants=IMPATIENT)
    trial.await_step("teardown")
    go(dockerd)
    trial.struck_at = time.monotonic()
    trial.go_on("teardown")
    return trial


def test_a_daemon_that_restarts_during_the_bench_ends_the_trial(launch: Launch, dockerd: Dockerd, tell: Tell) -> None:
    trial = paused_bench(launch)
    trial.go_on("bench")
    dockerd.stop_hard()
    dockerd.start()
    row = Row("bench", 1, "failed", FailureKind.SERVER_DIED)
    tell("bench", "daemon restarts", check(trial, row, trial.wait()))
    failure = trial.record.failure if trial.record else None
    assert failure is not None
    assert "after Docker did not answer for a while" in failure.message


def test_a_daemon_that_hangs_during_the_bench_costs_nothing(
    launch: Launch, dockerd: Dockerd, bystander: Container, tell: Tell
) -> None:
    trial = launch(faults={"bench": "pause"}, env={"STUB_BENCH": f"sleep:{AWAY_S}"})
    trial.await_step("bench")
    dockerd.pause()
    trial.go_on("bench")
    time.sleep(AWAY_S)
    dockerd.resume()
    tell("bench", "daemon hangs", check(trial, Row("bench", 0, "ok"), trial.wait()))
    bystander.reload()
    assert bystander.status == "running"


def test_a_signal_does_not_wait_for_a_daemon_that_hangs(launch: Launch, dockerd: Dockerd, tell: Tell) -> None:
    trial = launch("backend.keeper=false", faults={"bench": "pause"}, env={"STUB_BENCH": "hang"}, constants=IMPATIENT)
    trial.await_step("bench")
    dockerd.pause()
    trial.go_on("bench")
    trial.strike(signal.SIGINT)
    assert trial.wait() == 3
    tell("bench", "SIGINT, daemon hangs", f"exit 3, named, {trial.reaction_s():.1f} s")
    dockerd.resume()
    assert reap() == 0
    assert trial.remains() == []


@away
@pytest.mark.parametrize("step", ["create", "created"])
def test_a_daemon_that_goes_away_in_the_deploy_step(
    step: str, go: Go, launch: Launch, dockerd: Dockerd, tell: Tell
) -> None:
    """What it was asked for before it hung, it makes afterwards, although nobody waits for it any more."""
    hangs = go is Dockerd.pause
    trial = launch(f"timeouts.deploy_s={3 if hangs else 60}", faults={step: "pause", "teardown": "pause"})
    trial.await_step(step)
    go(dockerd)
    trial.go_on(step)
    trial.await_step("teardown")
    trial.go_on("teardown")
    time.sleep(AWAY_S)  # teardown asks already, so that both questions are answered at the same time
    dockerd.restore()
    row = Row("deploy", 1, "failed", FailureKind.STEP_TIMED_OUT if hangs else FailureKind.BACKEND_DOWN)
    tell(step, "daemon hangs" if hangs else "daemon down", check(trial, row, trial.wait()))


def test_an_engine_is_not_called_a_stranger_because_the_daemon_is_down(
    launch: Launch, dockerd: Dockerd, tell: Tell
) -> None:
    trial = launch(faults={"listener": "pause", "teardown": "pause"})
    trial.await_step("listener")
    dockerd.stop_hard()
    trial.go_on("listener")
    trial.await_step("teardown")
    dockerd.restore()
    trial.go_on("teardown")
    row = Row("health", 1, "failed", FailureKind.BACKEND_DOWN)
    tell("health", "daemon down", check(trial, row, trial.wait()))


@away
def test_teardown_waits_for_a_daemon_that_comes_back(go: Go, launch: Launch, dockerd: Dockerd, tell: Tell) -> None:
    trial = launch(faults={"teardown": "pause"})
    trial.await_step("teardown")
    go(dockerd)
    trial.go_on("teardown")
    time.sleep(AWAY_S)
    dockerd.restore()
    mode = f"daemon {'hangs' if go is Dockerd.pause else 'down'}, comes back"
    tell("teardown", mode, check(trial, Row("teardown", 0, "ok"), trial.wait()))


def test_the_keeper_goes_on_when_the_trial_gives_up(launch: Launch, dockerd: Dockerd, tell: Tell) -> None:
    trial = launch(faults={"teardown": "pause"}, constants=IMPATIENT)
    trial.await_step("teardown")
    dockerd.pause()
    trial.go_on("teardown")
    gave_up = process.wait_until(lambda: bool(trial.lease and trial.lease.released), timeout_s=180)
    dockerd.resume()
    assert gave_up
    row = Row("teardown", 0, "failed", FailureKind.TEARDOWN_FAILED, by="keeper")
    tell("teardown", "daemon hangs for long", check(trial, row, trial.wait()))


@away
def test_what_a_daemon_that_stays_away_keeps_is_named_and_reaped_later(
    go: Go, launch: Launch, dockerd: Dockerd, tell: Tell
) -> None:
    trial = orphaned(launch, dockerd, go)
    assert trial.wait() == 3
    seconds = trial.reaction_s()
    assert trial.lease is not None
    name = container.name(trial.lease.label)
    command = f"docker -H {dockerd.host} rm -f {name}"
    assert trial.record is not None
    assert trial.record.teardown is not None
    (left,) = trial.record.teardown.remaining
    assert left.startswith(f"container {name} may still be running")
    assert left.endswith(command)
    assert len(registered()) == 1
    early = subprocess.run(
        [sys.executable, "-c", IMPATIENT_REAPER], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (early.returncode, command in early.stdout) == (3, True)
    assert len(registered()) == 1
    dockerd.restore()
    assert reap() == 0
    assert trial.remains() == []
    mode = f"daemon {'hangs' if go is Dockerd.pause else 'down'} for good"
    tell("teardown", mode, f"exit 3, named, reaped later, {seconds:.1f} s")


def test_the_command_that_is_named_removes_what_is_left(launch: Launch, dockerd: Dockerd, client: DockerClient) -> None:
    trial = orphaned(launch, dockerd, Dockerd.pause)
    assert trial.wait() == 3
    dockerd.resume()
    record = trial.record
    assert record is not None
    assert record.teardown is not None
    _, _, name = record.teardown.remaining[0].rpartition(" rm -f ")
    client.containers.get(name).remove(force=True)
    assert reap() == 0
    assert trial.remains() == []


def test_a_port_that_was_taken_meanwhile_is_given_up_for_another(launch: Launch, tell: Tell) -> None:
    trial = launch(faults={"created": "pause"})
    trial.await_step("created")
    assert trial.lease is not None
    taken = trial.lease.port
    with socket.create_server(("127.0.0.1", taken or 0)):
        trial.go_on("created")
        tell("created", "port taken", check(trial, Row("deploy", 0, "ok"), trial.wait()))
        assert trial.lease.port not in {taken, None}
