"""The model and the runtime of a trial, on a real API server: made, used, refused, waited for."""

import threading
from pathlib import Path
from typing import Any

import pytest

from parts.kube_api import OME
from parts.kube_fixtures import KUBE_MARKS, Kube
from pipeline.backends.kube import manifests, models
from pipeline.core.errors import FailureKind, Interrupted, PreflightFailed
from pipeline.core.plan import Plan
from support import kube_trials

pytestmark = KUBE_MARKS
MODEL = f"{OME}/clusterbasemodels/tiny"


def planned(kube: Kube, run_dir: Path, **settings: Any) -> Plan:
    kube.add_node("one", gpus=1)
    return kube_trials.planned(kube_trials.of(kube, **settings), run_dir)


def ignore(_words: str) -> None:
    pass


def test_makes_what_is_missing_and_uses_it_again(kube: Kube, tmp_path: Path) -> None:
    plan = planned(kube, tmp_path)
    models.provide(plan, ignore)
    made = kube.api.get(MODEL)
    assert made["metadata"]["labels"] == dict([manifests.MANAGED_BY])
    models.provide(plan, ignore)
    again = kube.api.get(MODEL)
    assert (again["metadata"]["uid"], again["spec"]) == (made["metadata"]["uid"], made["spec"])
    assert len(kube.api.list(f"{OME}/clusterservingruntimes")) == 1


def test_another_model_of_the_name_is_refused_and_left_alone(kube: Kube, tmp_path: Path) -> None:
    there = kube.add_model("tiny", "/mnt/data/models/elsewhere")
    with pytest.raises(PreflightFailed, match=r"spec\.storage\.path is '/mnt/data/models/elsewhere'"):
        models.provide(planned(kube, tmp_path), ignore)
    assert kube.api.get(MODEL)["spec"] == there["spec"]


def test_waits_for_a_model_in_transit(kube: Kube, tmp_path: Path) -> None:
    kube.operator.behave("/tiny", download_s=600)
    told = []

    def tell(words: str) -> None:
        told.append(words)
        if "In_Transit" in words:
            kube.operator.behave("/tiny", download_s=0)

    models.provide(planned(kube, tmp_path), tell)
    assert any("In_Transit" in words for words in told)
    assert kube.api.get(MODEL)["status"]["state"] == "Ready"


def test_failed_download_is_told_at_once(kube: Kube, tmp_path: Path) -> None:
    kube.operator.behave("/tiny", download_fails=True)
    with pytest.raises(PreflightFailed, match="Failed on one") as caught:
        models.provide(planned(kube, tmp_path), ignore)
    assert caught.value.kind == FailureKind.MODEL_MISSING


def test_limit_is_kept(kube: Kube, tmp_path: Path) -> None:
    kube.operator.behave("/tiny", download_s=600)
    with pytest.raises(PreflightFailed, match="did not arrive within") as caught:
        models.provide(planned(kube, tmp_path, model_s=2), ignore)
    assert caught.value.kind == FailureKind.STEP_TIMED_OUT


def test_signal_ends_the_waiting(kube: Kube, tmp_path: Path) -> None:
    kube.operator.behave("/tiny", download_s=600)

    def tell(words: str) -> None:
        if "In_Transit" in words:
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        models.provide(planned(kube, tmp_path), tell)


def test_goes_on_after_the_api_server_was_away(kube: Kube, tmp_path: Path) -> None:
    kube.operator.behave("/tiny", download_s=600)
    seen = set()
    restart = threading.Thread(target=kube.cluster.start_api_server)

    def tell(words: str) -> None:
        if "In_Transit" in words and "stopped" not in seen:
            seen.add("stopped")
            kube.cluster.stop_api_server()
            kube.operator.behave("/tiny", download_s=0)
        if "does not answer" in words and "away" not in seen:
            seen.add("away")
            restart.start()

    models.provide(planned(kube, tmp_path), tell)
    restart.join()
    assert seen == {"stopped", "away"}
