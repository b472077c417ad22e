"""A trial's pod that lacks GPUs: for whom it waits, how long, and how often the cluster is asked."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from fakes import FakeBackend, make_plan
from pipeline.backends import Tell
from pipeline.backends.kube import arrival, room
from pipeline.backends.kube.capacity import Lack
from pipeline.backends.kube.client import Api, ApiError, Unreachable
from pipeline.backends.kube.rollout import Broken, Seen, Verdict, Waiting
from pipeline.backends.kube.watching import View
from pipeline.core.errors import DeployFailed, FailureKind
from pipeline.core.files import RunDir
from pipeline.core.plan import Plan
from pipeline.core.schema_backends import Kubernetes
from pipeline.machine.progress import Lines
from pipeline.trial import run
from pipeline.trial.story import Place, Story
from support import engine_pods
from support.engine_pods import GPUS, unscheduled
from support.pods import WANT, node, pod, trial
from support.records import make_config

LACKING = Broken(
    FailureKind.UNSCHEDULABLE, "No node has enough free GPUs.", "Free them.", is_sure=False, lacks_gpus=True
)
UNSCHEDULED = unscheduled(GPUS)
SCHEDULE_S = 0.3


class FakeApi:
    """A cluster with one node of 8 GPUs and these pods; may refuse to list those of other namespaces."""

    def __init__(self, *pods: Any, refusal: int | None = None) -> None:
        self.pods = pods
        self.refusal = refusal
        self.error: Exception | None = None
        self.asked = 0

    def list(self, kind: str, *, everywhere: bool = False, **_selectors: str) -> list[Any]:
        self.asked += 1
        if self.error:
            raise self.error
        if everywhere and self.refusal:
            raise ApiError(self.refusal, "Forbidden", "no")
        return [node()] if kind == "Node" else [*self.pods]


def queue(api: FakeApi, patience_s: float = 0) -> room.Queue:
    return room.Queue(cast("Api", api), WANT, "st-own", patience_s)


def waiting(judged: Verdict) -> Waiting:
    assert isinstance(judged, Waiting), judged
    return judged


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "AGAIN_S", 0.0)
    monkeypatch.setattr(room, "SHARE", 0)


def test_a_trials_gpus_are_waited_for_without_limit() -> None:
    judged = waiting(queue(FakeApi(trial(8, 0))).judge(LACKING))
    assert judged == Waiting("waits for 4 nvidia.com/gpu: st-sweep-0 on one has 8", "schedule", is_untimed=True)


def test_others_gpus_are_not_waited_for_and_they_are_named() -> None:
    judged = queue(FakeApi(pod(8))).judge(LACKING)
    assert isinstance(judged, Broken)
    assert judged.message == "No node has enough free GPUs. 4 nvidia.com/gpu are in use by ns/holder (8 on one)."
    assert "wait_for_gpus_s" in judged.hint


def test_others_gpus_are_waited_for_as_long_as_is_said() -> None:
    standing = queue(FakeApi(pod(8)), patience_s=60)
    assert waiting(standing.judge(LACKING)).is_untimed
    standing.patience_s = 0
    assert isinstance(standing.judge(LACKING), Broken)


def test_gpus_that_are_free_again_are_left_to_the_scheduler_for_its_time() -> None:
    assert not waiting(queue(FakeApi()).judge(LACKING)).is_untimed


def test_gpus_that_no_node_has_are_not_waited_for() -> None:
    standing = queue(FakeApi())
    standing.want = replace(WANT, gpus=16)
    assert standing.judge(LACKING) == LACKING


def test_the_cluster_is_asked_every_few_seconds_only() -> None:
    api = FakeApi(trial(8, 0))
    standing = queue(api)
    for _ in range(50):
        standing.judge(LACKING)
    assert api.asked == 2


def test_pods_of_ones_own_namespace_are_enough_where_others_may_not_be_read() -> None:
    assert waiting(queue(FakeApi(trial(8, 0), refusal=403)).judge(LACKING)).is_untimed


def test_a_cluster_that_says_nothing_changes_nothing() -> None:
    assert queue(FakeApi(trial(8, 0), refusal=500)).judge(LACKING) == LACKING


@pytest.mark.usefixtures("at_once")
def test_an_api_server_that_goes_away_leaves_what_was_known() -> None:
    api = FakeApi(trial(8, 0))
    standing = queue(api)
    standing.judge(LACKING)
    api.error = Unreachable("gone")
    assert waiting(standing.judge(LACKING)).is_untimed


class FakeView:
    """What the cluster says of the trial: its pod has no node until the other trial's is gone, and never if stuck."""

    def __init__(self, api: FakeApi, *, is_stuck: bool = False) -> None:
        self.api = api
        self.is_stuck = is_stuck
        self.begin = time.monotonic()

    def check(self) -> None:
        """Nothing refuses."""

    def seen(self) -> Seen:
        has_ended = time.monotonic() >= self.begin + 3 * SCHEDULE_S
        self.api.pods = () if has_ended else self.api.pods
        return Seen(pods=(engine_pods.pod({"running": {}}) if has_ended and not self.is_stuck else UNSCHEDULED,))

    def pause(self) -> None:
        time.sleep(0.01)


@pytest.mark.usefixtures("at_once")
def test_time_behind_other_trials_does_not_count() -> None:
    api = FakeApi(trial(8, 0))
    view = cast("View", FakeView(api))
    pod_of_ours = arrival.wait_started(view, Kubernetes(schedule_s=SCHEDULE_S), queue(api))
    assert pod_of_ours["spec"]["nodeName"] == "one"


@pytest.mark.usefixtures("at_once")
def test_time_after_the_other_trials_counts() -> None:
    api = FakeApi(trial(8, 0))
    view = cast("View", FakeView(api, is_stuck=True))
    with pytest.raises(DeployFailed, match=f"within {SCHEDULE_S:g} s: .* enough seem to be free"):
        arrival.wait_started(view, Kubernetes(schedule_s=SCHEDULE_S), queue(api))


def never(_said: str) -> None:
    raise AssertionError(_said)


@pytest.mark.parametrize("found", [None, "others", "nobody"])
def test_only_trials_are_waited_for_before_there_is_a_pod(found: Any) -> None:
    room.wait_for_trials(lambda: found and Lack(found, "x"), never)


@pytest.mark.usefixtures("at_once")
def test_waits_until_the_trials_have_ended_and_says_for_which() -> None:
    answers: list[Any] = [Lack("trials", "a"), ApiError(503, "", "busy"), Lack("trials", "b"), None]
    told: list[str] = []

    def ask() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    room.wait_for_trials(ask, told.append)
    assert not answers
    assert told == ["a", "b"]


def test_a_refusal_is_a_failure_with_the_right_that_is_missing() -> None:
    words = 'nodes is forbidden: User "u" cannot list resource "nodes" in API group ""'

    def ask() -> None:
        raise ApiError(403, "Forbidden", words)

    with pytest.raises(DeployFailed) as caught:
        room.wait_for_trials(ask, never)
    assert 'resources: ["nodes"]' in caught.value.hint


class Shared(FakeBackend):
    """A platform whose room another trial has."""

    def await_room(self, plan: Plan, tell: Tell) -> None:
        tell("waits for st-other")


def test_a_trial_tells_for_whom_it_waits_in_its_step_slots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(sweep_id="sweep", number=7, overrides=(), run_dir=RunDir(tmp_path))
    story = Story(place, make_config(), Lines(None))
    with run._slots(story, make_plan(tmp_path, backend=f"{__name__}.Shared")):
        assert [step.step for step in story.timings.done] == ["slots"]
    assert "slots waits for st-other" in capsys.readouterr().out
