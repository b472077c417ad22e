"""Kubernetes' words of a pod's end -> whose fault it was. The words are in tests/unit/backends/kube/test_taken.py."""

import pytest

from pipeline.core.errors import FailureKind as Kind
from pipeline.engines.diagnose import server_death
from pipeline.engines.pod_ends import POD_ENDED, of

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"


def test_a_pods_end_counts_before_what_the_engine_said_when_it_was_stopped() -> None:
    found = server_death(f"{POD_ENDED}EvictionByEvictionAPI: Eviction API: evicting", OOM)
    assert (found.kind, found.reason) == (Kind.PREEMPTED, "")


@pytest.mark.parametrize(
    "how", ["exit code 1", "OME gave up on the model: Evicted: x", "killed by SIGKILL", f"{POD_ENDED}Odd: who knows"]
)
def test_other_ends_are_told_by_the_log(how: str) -> None:
    assert of(how) is None
    assert server_death(how, OOM).kind == Kind.OOM_GPU


def test_a_memory_eviction_is_the_engines_where_it_used_more_than_it_had_requested() -> None:
    low = f"{POD_ENDED}Evicted: The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi."
    sidecar = " Container sidecar was using 9Gi, request is 1Gi, has larger consumption of memory."
    engine = " Container ome-container was using 9Gi, request is 0, has larger consumption of memory."
    assert server_death(low + sidecar, "").kind == Kind.NODE_FAILED
    assert server_death(low + engine, "").kind == Kind.OOM_HOST
    whole = " Pod st-x-engine-0 was using 9Gi, request is 8Gi, has larger consumption of memory."
    assert server_death(low + whole, "").kind == Kind.OOM_HOST
