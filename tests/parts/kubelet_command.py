"""From a container of a pod's spec to a command line and an environment of this machine."""

from __future__ import annotations

import base64
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parts.kube_api import Api
from parts.ome_behaviour import Settings

FIELDS = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "spec.nodeName": ("spec", "nodeName"),
}
RUN = ("ome-container", "genai-bench")  # whose command is run; others do nothing


class ConfigError(Exception):
    """What a kubelet calls CreateContainerConfigError."""


class StartError(Exception):
    """There is no such program; the container ends with 128."""


def environment(api: Api, pod: Any, container: Any, settings: Settings, address: str) -> dict[str, str]:
    """As the pod's spec says, over the settings'.

    Raises:
        ConfigError: a Secret or ConfigMap is not there.
    """
    given = dict(settings.env)
    for entry in container.get("env", []):
        value = _value(api, pod, entry, address)
        if value is not None:
            given[entry["name"]] = settings.paths.get(_expanded(value, given), _expanded(value, given))
    return given


def command(container: Any, env: Mapping[str, str], settings: Settings) -> list[str]:
    """What is run for it: `python3` is this Python, whatever the image has.

    Raises:
        StartError: the program is not on this machine, or none is named: there is no image to name one.
    """
    if container["name"] not in RUN:
        return ["sleep", "infinity"]
    words = [_expanded(word, env) for word in (*container.get("command", []), *container.get("args", []))]
    words = [settings.paths.get(word, word) for word in words]
    if not container.get("command"):
        raise StartError("no command specified")
    if Path(words[0]).name in {"python", "python3"}:
        words[0] = sys.executable
    if shutil.which(words[0], path=env.get("PATH")) is None:
        raise StartError(f'exec: "{words[0]}": executable file not found in $PATH: unknown')
    return words


def _value(api: Api, pod: Any, entry: Any, address: str) -> str | None:
    source = entry.get("valueFrom")
    if source is None:
        return str(entry.get("value", ""))
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"], address)
    kind = "secrets" if "secretKeyRef" in source else "configmaps"
    return _looked_up(api, pod["metadata"]["namespace"], kind, *source.values())


def _field(pod: Any, path: str, address: str) -> str:
    if path == "status.podIP":
        return address
    section, name = FIELDS[path]
    return str(pod[section][name])


def _looked_up(api: Api, namespace: str, kind: str, reference: Any) -> str | None:
    found = api.find(f"/api/v1/namespaces/{namespace}/{kind}/{reference['name']}")
    item = (found or {}).get("data", {}).get(reference["key"])
    if item is None and not reference.get("optional"):
        word = kind.removesuffix("s").replace("configmap", "configmap ").strip()
        where = f'{word} "{reference["name"]}" not found'
        raise ConfigError(where if found is None else f"couldn't find key {reference['key']} in {word}")
    return base64.b64decode(item).decode() if item and kind == "secrets" else item


def _expanded(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` is a variable's value where there is one, `$$(NAME)` is not."""

    def put(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        return env.get(match[1], match[0])

    return re.sub(r"\$?\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)", put, text)
