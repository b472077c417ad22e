"""An API server that is away for a while, or for good, at the steps that need it."""

import signal
import subprocess
import sys
import time

import pytest

from parts.kube import Cluster
from parts.kube_fixtures import KUBE_MARKS
from pipeline.backends.kube import manifests
from support.places import ROOT
from support.world import Launch, Tell, registered
from teardown.test_hard_cases import paused_bench, reap
from teardown.test_matrix import Row, check

pytestmark = [*KUBE_MARKS, pytest.mark.parametrize("place", ["ome"], indirect=True)]
AWAY_S = 20.0
IMPATIENT = {"PATIENCE_S": 1.0}
IMPATIENT_REAPER = (
    "import sys; from pipeline import reap; from pipeline.backends.kube import removal; "
    "removal.PATIENCE_S = 1.0; sys.exit(reap.main([]))"
)


def test_one_that_is_away_during_the_bench_costs_nothing(launch: Launch, cluster: Cluster, tell: Tell) -> None:
    """What is measured meanwhile is another matter: requests go through the API server, where a port is forwarded."""
    trial = launch(faults={"bench": "pause"}, env={"STUB_BENCH": f"sleep:{AWAY_S + 4}"})
    trial.await_step("bench")
    cluster.stop_api_server()
    trial.go_on("bench")
    time.sleep(AWAY_S)
    cluster.restore()
    tell("bench", f"API server away {AWAY_S:g} s", check(trial, Row("bench", 0, "ok"), trial.wait()))


@pytest.mark.parametrize("step", ["deploy", "teardown"])
def test_one_that_comes_back_is_waited_for(step: str, launch: Launch, cluster: Cluster, tell: Tell) -> None:
    trial = launch("timeouts.deploy_s=60", faults={step: "pause"})
    trial.await_step(step)
    cluster.stop_api_server()
    trial.go_on(step)
    time.sleep(2)
    cluster.restore()
    tell(step, "API server away, comes back", check(trial, Row(step, 0, "ok"), trial.wait()))


def test_a_signal_does_not_wait_for_it(launch: Launch, cluster: Cluster, tell: Tell) -> None:
    trial = paused_bench(launch, "backend.keeper=false", constants=IMPATIENT)
    cluster.stop_api_server()
    trial.strike(signal.SIGINT)
    assert trial.wait() == 3
    seconds = trial.reaction_s()
    cluster.restore()
    assert reap() == 0
    assert trial.remains() == []
    tell("bench", "SIGINT, API server away", f"exit 3, named, reaped later, {seconds:.1f} s")


def test_what_may_run_when_it_stays_away_is_named_and_reaped_later(
    launch: Launch, cluster: Cluster, tell: Tell
) -> None:
    trial = launch("backend.keeper=false", faults={"teardown": "pause"}, constants=IMPATIENT)
    trial.await_step("teardown")
    cluster.stop_api_server()
    trial.go_on("teardown")
    assert trial.wait() == 3
    assert trial.lease is not None
    assert trial.record is not None
    assert trial.record.teardown is not None
    (left,) = trial.record.teardown.remaining
    assert left.startswith(f"InferenceService {manifests.name(trial.lease.label)} may still be running")
    early = subprocess.run(
        [sys.executable, "-c", IMPATIENT_REAPER], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (early.returncode, manifests.name(trial.lease.label) in early.stdout) == (3, True), early.stdout
    assert len(registered()) == 1
    cluster.restore()
    assert reap() == 0
    assert trial.remains() == []
    tell("teardown", "API server down for good", "exit 3, named, reaped later")
