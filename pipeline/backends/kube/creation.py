"""Creates a trial's objects, the owner first: what goes with it goes when it goes."""

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.backends.kube import manifests
from pipeline.backends.kube.client import Api, ApiError, Manifest, Unreachable
from pipeline.backends.lease import Lease
from pipeline.core.errors import DeployFailed, FailureKind
from pipeline.core.values import plain

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.core.plan import Plan

PATIENCE_S = 60.0  # with an API server that does not answer
AGAIN_S = 0.5
EXISTS, FORBIDDEN, NOT_FOUND = 409, 403, 404
DOWN = "Check that the cluster is up, and the network or VPN to it; `kubectl cluster-info` should fail the same way."
_DENIED = re.compile(r'cannot (\S+) resource "([^"]+)" in API group "([^"]*)"')


def create(api: Api, plan: "Plan", owned: Lease) -> None:
    """The Job that is the dead man's switch, the Secret if the engine is given one, the InferenceService.

    Raises:
        DeployFailed: the API server refuses or does not answer; what there is by then carries the label.
    """
    job = created(api, manifests.owner_job(plan, owned.label, json.dumps(plain(owned.owner))))
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
    secrets = {theirs: os.environ[ours] for theirs, ours in plan.secret_env.items() if os.environ.get(ours)}
    secret = manifests.secret(plan, owned.label, secrets, owner)
    if secret:
        created(api, secret)
    created(api, manifests.inference_service(plan, owned.label, owner=owner))


def insist(act: Callable[[], Any], *, patience_s: float = PATIENCE_S) -> Any:
    """What `act` gives, tried again while the API server does not answer, or is only just starting.

    Raises:
        DeployFailed: it was silent for so long.
        ApiError: it refuses.
    """
    end = time.monotonic() + patience_s
    while True:
        try:
            return act()
        except (Unreachable, ApiError) as error:
            if isinstance(error, ApiError) and not error.is_passing:
                raise
            if time.monotonic() >= end:
                words = f"The API server does not answer: {error}"
                raise DeployFailed(words, kind=FailureKind.BACKEND_DOWN, hint=DOWN) from error
            time.sleep(AGAIN_S)


def refused(error: ApiError, what: str) -> DeployFailed:
    """The failure behind the API server's refusal of `what`, in its own words."""
    denied = _DENIED.search(str(error))
    kind, hint = FailureKind.LOAD_FAILED, "Fix what the message names; `dry_run=true` shows the manifests."
    if error.code == FORBIDDEN and denied:
        verb, resource, group = denied.groups()
        kind = FailureKind.PREFLIGHT
        rule = f'{{apiGroups: ["{group}"], resources: ["{resource}"], verbs: ["{verb}"]}}'
        hint = f"Grant your account the rule {rule} (see templates/ome/rbac.yaml)."
    elif "quota" in str(error):
        kind, hint = (
            FailureKind.UNSCHEDULABLE,
            "Free resources of the quota, or have it raised: kubectl describe resourcequota",
        )
    elif error.code == NOT_FOUND:
        kind, hint = (
            FailureKind.BACKEND_DOWN,
            "Check that the namespace exists (kubectl get ns) and that OME is installed.",
        )
    return DeployFailed(f"The API server refused {what}: {error}", kind=kind, hint=hint)


def created(api: Api, manifest: Manifest) -> Manifest:
    """The object; that which is there already where an answer was lost on its way. Raises as `create`."""
    kind, name = str(manifest["kind"]), str(manifest["metadata"]["name"])

    def once() -> Mapping[str, Any]:
        try:
            return api.create(manifest)
        except ApiError as error:
            found = api.get(kind, name) if error.code == EXISTS else None
            if found is None:
                raise
            return found

    try:
        made: Manifest = insist(once)
    except ApiError as error:
        raise refused(error, f"the {kind} {name}") from error
    return made
