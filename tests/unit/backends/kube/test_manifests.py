"""A trial's manifests: every value of the plan is in its field and in no other, whatever it is."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from pipeline.backends.kube import manifests, rendering
from pipeline.core.errors import ConfigError
from pipeline.core.plan import Plan
from support.clustered import LABEL, OWNER, configured, planned

# Each would end its field, or become another kind of value, were it written into YAML as it is
HOSTILE = [
    'a "quoted" word', "it's", "two\nlines", "two\r\nlines", "key: value", "- item", "a # comment", "&anchor", "*alias",
    "!!python/object/apply:os.system [id]", "{}", "[1]", "}}", "| block", "%directive", "---", "...", "@at", "`tick`",
    "true", "no", "y", "null", "~", "1", "1.0", "1e3", "0x10", "0o17", "2026-01-01", "1:30", ".inf", "=", "<<", "?",
    "", " ", " padded ", "tab\there", "{% raw %}", "{# no comment #}", "{ { spaced } }", "back\\slash", "\\u0041",
    "ünïcode", "😀", "\u2028", "\x85", "\x7f", "\ufeff", "<script>&'", "$HOME", "%s", "a,b=c",
]  # fmt: skip


def engine(made: Plan) -> Any:
    return manifests.inference_service(made, LABEL, owner=OWNER)["spec"]["engine"]


def test_every_word_of_the_command_is_an_item_of_its_own() -> None:
    made = planned(argv=("python3", "-m", "engine", "--port", "{port}", "--page-size", "64"))
    runner = engine(made)["runner"]
    assert runner["command"] == ["python3"]
    assert runner["args"] == ["-m", "engine", "--port", "8080", "--page-size", "64"]
    assert (runner["name"], runner["image"]) == ("ome-container", "engine:1")
    assert runner["ports"] == [{"name": "http1", "protocol": "TCP", "containerPort": 8080}]


def test_a_trial_has_one_replica_and_ends_when_it_is_told_to() -> None:
    found = engine(planned(stop_grace_s=4.2))
    assert (found["minReplicas"], found["maxReplicas"], found["terminationGracePeriodSeconds"]) == (1, 1, 5)


def test_everything_of_a_trial_carries_its_label_and_is_owned_by_its_job() -> None:
    made = planned()
    job, service = manifests.owner_job(made, LABEL, '{"pid": 1}'), manifests.inference_service(made, LABEL, owner=OWNER)
    labels = {"servetune.io/lease": LABEL, "app.kubernetes.io/managed-by": "servetune"}
    assert job["metadata"] == {
        "name": f"st-{LABEL}", "labels": labels, "annotations": {"servetune.io/owner": '{"pid": 1}'}
    }  # fmt: skip
    assert service["metadata"] == {"name": f"st-{LABEL}", "labels": labels, "ownerReferences": [OWNER]}
    assert job["spec"]["template"]["metadata"]["labels"] == service["spec"]["engine"]["labels"] == labels


def test_the_job_ends_by_itself_and_its_pod_fits_nowhere() -> None:
    spec = manifests.owner_job(planned(configured(lifetime_s=77)), LABEL, "{}")["spec"]
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"], spec["backoffLimit"]) == (77, 0, 0)
    assert spec["template"]["spec"]["nodeSelector"] == {"servetune.io/never": "true"}
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_what_the_pod_is_given_comes_from_the_configuration() -> None:
    tolerations = [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}]
    affinity: dict[str, Any] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
    }
    found = engine(planned(configured(
        gpu_resource="amd.com/gpu", cpu="16", memory="200Gi", shm_size_gib=1.5, node_selector={"pool": "8"},
        tolerations=tolerations, affinity=affinity, image_pull_secrets=["mine"],
    )))  # fmt: skip
    gpus = {"amd.com/gpu": 2}
    assert found["runner"]["resources"] == {"limits": gpus, "requests": {"cpu": "16", "memory": "200Gi", **gpus}}
    assert (found["nodeSelector"], found["tolerations"], found["affinity"]) == ({"pool": "8"}, tolerations, affinity)
    assert found["imagePullSecrets"] == [{"name": "mine"}]
    assert found["volumes"] == [{"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "1536Mi"}}]
    assert found["runner"]["volumeMounts"] == [{"name": "dshm", "mountPath": "/dev/shm"}]  # noqa: S108 - in the pod


def test_without_gpus_none_are_asked_for() -> None:
    assert engine(planned(configured(hardware={"gpu_count": 0})))["runner"]["resources"] == {}


def test_the_kubelet_waits_longer_than_we_do() -> None:
    made = planned()
    probe = engine(made)["runner"]["startupProbe"]
    assert probe["httpGet"] == {"path": "/health", "port": 8080}
    assert probe["periodSeconds"] * probe["failureThreshold"] > made.health.timeout_s


def test_a_secret_is_named_in_the_manifest_and_shown_in_the_secret_only() -> None:
    made = planned(secret_env={"VLLM_API_KEY": "SERVETUNE_API_KEY"}, env={"A": "1"})
    (plain, hidden) = engine(made)["runner"]["env"]
    reference = {"name": f"st-{LABEL}", "key": "VLLM_API_KEY", "optional": True}
    assert plain == {"name": "A", "value": "1"}
    assert hidden == {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": reference}}
    kept = manifests.secret(made, LABEL, {"VLLM_API_KEY": "sk-1", "OTHER": "x"}, OWNER)
    assert kept is not None
    assert kept["stringData"] == {"VLLM_API_KEY": "sk-1"}
    assert kept["metadata"]["name"] == reference["name"]
    assert kept["metadata"]["ownerReferences"] == [OWNER]
    assert manifests.secret(made, LABEL, {}) is None


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_value_breaks_out_of_its_field(text: str) -> None:
    made = planned(
        configured(node_selector={"pool": text}, storage={"uri": f"hf://a/{text}", "path": f"/m/{text}x"}),
        argv=("engine", "--knob", text, "--next"),
        env={"OF_THE_TRIAL": text, "NEXT": "1"},
    )
    service = manifests.inference_service(made, LABEL, owner=OWNER)
    runner = service["spec"]["engine"]["runner"]
    assert runner["args"] == ["--knob", text, "--next"]
    assert runner["env"] == [{"name": "OF_THE_TRIAL", "value": text}, {"name": "NEXT", "value": "1"}]
    assert service["spec"]["engine"]["nodeSelector"] == {"pool": text}
    assert manifests.base_model(made)["spec"]["storage"] == {"storageUri": f"hf://a/{text}", "path": f"/m/{text}x"}
    assert manifests.owner_job(made, LABEL, text)["metadata"]["annotations"] == {"servetune.io/owner": text}
    assert list(service["spec"]["engine"]) == list(engine(replace(made, argv=("e",), env={})))


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_is_printed_reads_as_what_was_meant(text: str) -> None:
    document = {"args": [text, "x"], text: 1}
    printed = rendering.to_yaml([document])
    assert list(yaml.safe_load_all(printed)) == [document]


@pytest.mark.parametrize("text", ["1e3", "y", "n", "0o17", "1_000", "12:30:45", "+1", "on", "NULL", "0b1"])
def test_kubectl_reads_a_printed_text_as_text(text: str) -> None:
    printed = rendering.to_yaml([{"args": [text]}])
    assert re.search(rf"- (['\"]){re.escape(text)}\1$", printed, re.MULTILINE), printed


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("$(HOME)", "$$(HOME)"),
        ("$$(HOME)", "$$$$(HOME)"),
        ("$HOME", "$HOME"),
        ("a$$b", "a$$$$b"),
        ("$", "$"),
        ("x$$", "x$$$$"),
    ],
)
def test_the_kubelet_puts_no_variables_into_a_word(text: str, written: str) -> None:
    made = planned(argv=("engine", text), env={"A": text})
    assert engine(made)["runner"]["args"] == [written]
    assert engine(made)["runner"]["env"][0]["value"] == written
    assert expanded(written) == text


def expanded(text: str) -> str:
    """As the kubelet does with no variable known. Source: Kubernetes, third_party/forked/golang/expansion/expand.go."""
    return re.sub(r"\$\$|\$\([^)]*\)", lambda found: "$" if found[0] == "$$" else "a variable's value", text)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"argv": ("engine", '--json={{"a": 1}}')}, "ome-container.args[0]"),
        ({"env": {"A": "{{.Name}}"}}, "ome-container.env[0].value"),
        ({"env": {"{{A": "1"}}, "ome-container.env[0].name"),
        ({"argv": ("{{", "x")}, "ome-container.command[0]"),
    ],
)
def test_braces_that_ome_would_take_for_its_own_are_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(field) + r": .* OME would read it as a template"):
        engine(planned(**changes))


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d"], ids=["nul", "half-a-character"])
def test_what_kubernetes_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"inferenceservice\.args\[0\]: .* contains characters that Kubernetes cannot store"
    ):
        engine(planned(argv=("engine", text)))


def test_a_template_that_loses_a_value_is_found_out() -> None:
    with pytest.raises(ConfigError, match=r"X spec\.args: expected \['a'\], the rendered manifest says \['b'\]"):
        rendering.must_hold({"kind": "X", "spec": {"args": ["b"]}}, ("spec.args", ["a"]))


@pytest.mark.parametrize(
    "label",
    ["s-0-1a2b3c4d", "x" * 40 + "-1a2b3c4d", "x" * 80, "-odd-", "Upper_Case", "a--b", "9", "x" * 39 + "-" + "y" * 39],
)
def test_a_name_is_a_dns_label_that_leaves_room(label: str) -> None:
    found = manifests.name(label)
    assert re.fullmatch(r"st-[a-z0-9]([-a-z0-9]*[a-z0-9])?", found)
    assert len(found) <= 52


def test_different_labels_have_different_names() -> None:
    labels = ["a", "A", "a-", "x" * 60, "y" + "x" * 59, "a_b", "a-b"]
    assert len({manifests.name(label) for label in labels}) == len(labels)


def test_the_namespace_is_named_where_it_is_configured() -> None:
    made = planned(configured(cluster={"namespace": "tuning"}))
    assert manifests.owner_job(made, LABEL, "{}")["metadata"]["namespace"] == "tuning"
    assert manifests.inference_service(made, LABEL, owner=None)["metadata"]["namespace"] == "tuning"
    assert "ownerReferences" not in manifests.inference_service(made, LABEL, owner=None)["metadata"]


def test_a_plan_of_another_backend_has_no_manifests() -> None:
    with pytest.raises(ConfigError, match=r"backend=ome needs backend\.kubernetes"):
        manifests.base_model(replace(planned(), ome_model=None))
