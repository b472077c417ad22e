"""`python -m pipeline.reap backend=ome`: trials in a cluster that no lease of this machine tells of."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from parts.kube_fixtures import KUBE_MARKS, Kube
from parts.ome_objects import service
from pipeline.backends.kube import manifests
from pipeline.core.values import plain
from pipeline.machine import identity
from support import forked
from support.cli import command
from support.rights import roles

pytestmark = KUBE_MARKS

Left = Callable[..., str]


@pytest.fixture
def left(kube: Kube) -> Left:
    """Leave a trial of that owner in the cluster; its label."""

    def make(label: str, owner: identity.Identity | str) -> str:
        told = owner if isinstance(owner, str) else json.dumps(plain(owner))
        labels, name = {manifests.LABEL: label}, manifests.name(label)
        never = {"nodeSelector": {"servetune.io/never": "true"}, "restartPolicy": "Never"}
        pod = {"metadata": {"labels": labels}, "spec": {**never, "containers": [{"name": "x", "image": "x"}]}}
        meta = {"name": name, "labels": labels, "annotations": {manifests.OWNER: told}}
        spec = {"activeDeadlineSeconds": 7200, "ttlSecondsAfterFinished": 0, "template": pod}
        kube.api.create(jobs(kube), {"metadata": meta, "spec": spec})
        kube.create(service(name, "none", "none", labels=labels))
        return label

    return make


def jobs(kube: Kube) -> str:
    return f"/apis/batch/v1/namespaces/{kube.namespace}/jobs"


def services(kube: Kube) -> list[str]:
    return [one["metadata"]["name"] for one in kube.api.list(kube.ome)]


def ended() -> identity.Identity:
    """A process of this machine that is no more."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        return identity.of(child.pid)


def reap(*words: str) -> Any:
    argv = [*command(sweep=False, module="pipeline.reap"), *words]
    return forked.run(argv)


def test_removes_what_has_lost_its_process(kube: Kube, left: Left) -> None:
    left("a-1", ended())
    listed = reap("--list", "backend=ome")
    assert f"{kube.namespace}/a-1  orphan" in listed.stdout
    assert services(kube) == ["st-a-1"]
    done = reap("backend=ome")
    assert (done.returncode, "1 trials in the cluster (all namespaces)" in done.stdout) == (0, True), done
    assert "removed by the cluster in 2.0 h: removed" in done.stdout
    assert (services(kube), kube.api.list(jobs(kube))) == ([], [])


@pytest.mark.parametrize("is_told", [True, False], ids=["one-more-word", "by-default"])
def test_leaves_trials_of_other_machines_alone_unless_told(kube: Kube, left: Left, is_told: bool) -> None:
    left("a-1", replace(ended(), host="gpu-7"))
    left("a-2", "no identity")
    done = reap("backend=ome", *(["--all-hosts"] if is_told else []))
    assert "elsewhere  host gpu-7" in done.stdout
    assert "elsewhere  owner cannot be read" in done.stdout
    assert services(kube) == ([] if is_told else ["st-a-1", "st-a-2"])


def test_never_touches_a_trial_that_runs(kube: Kube, left: Left) -> None:
    left("a-1", identity.of())
    assert "in use" in reap("backend=ome", "--all-hosts").stdout
    assert services(kube) == ["st-a-1"]


def test_looks_where_it_may(kube: Kube, left: Left) -> None:
    """With the account of templates/ome/rbac.yaml, which sees the jobs of its own namespace only."""
    left("a-1", ended())
    account = kube.add_user("servetune", *roles())
    done = reap("backend=ome", f"backend.kubernetes.cluster.kubeconfig={account}")
    assert f"(namespace {kube.namespace} only: no right to list jobs in all namespaces)" in done.stdout, done
    assert (done.returncode, services(kube)) == (0, [])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["backend=ome", "backend.kubernetes.cluster.context=none"],
            1,
            "there is no context none; available contexts: tests",
        ),
        (["backend=local"], 2, "Only backend=ome has a cluster"),
        (["backend=omen"], 2, "omen"),
    ],
    ids=["no-such-context", "no-cluster", "misspelt"],
)
def test_says_why_it_cannot_look(kube: Kube, words: list[str], code: int, said: str) -> None:
    done = reap(*words)
    assert (done.returncode, said in done.stderr) == (code, True), done
