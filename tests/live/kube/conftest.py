"""Every test here may ask for a Kubernetes cluster with OME on it."""

from kube_fixtures import cluster, kube_client, kube_of_a_test, needs_kube, operator

__all__ = ["cluster", "kube_client", "kube_of_a_test", "needs_kube", "operator"]
