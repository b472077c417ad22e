"""What the played OME and kubelets are told to do: values in a file that the tests write and the operator reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Behaviour:
    """Of one InferenceService, model, or pod; without faults as it stands."""

    # The kubelet
    pull_s: float = 0.0  # ContainerCreating so long
    pull_error: str = ""  # what the registry said: ErrImagePull, then ImagePullBackOff
    exit_code: int | None = None  # of the container instead of its command, at once and again and again
    death_reason: str = ""  # OOMKilled, say, instead of Error
    backoff_s: float = 1.0  # before a crashed container starts again; a real kubelet: 10 s, twice as much each time
    # The controller of InferenceServices
    is_ignored: bool = False  # as if the controller were down: no status, no pods, no end
    load_error: str = ""  # BlockedByFailedLoad with this message, whatever the pod does
    holds_finalizer: bool = False  # the InferenceService never goes
    is_ready_early: bool = False  # OME before December 2025: Ready before the engine is
    # The model agent
    download_s: float = 0.0  # In_Transit so long
    download_fails: bool = False


@dataclass(frozen=True)
class Settings:
    """Of the whole operator."""

    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)  # in every container, under what the pod says
    paths: Mapping[str, str] = field(default_factory=dict)  # words of commands and variables, and what stands for them

    def of(self, namespace: str, name: str) -> Behaviour:
        """That of the longest key that the name begins with: a pod's begins with its InferenceService's."""
        keys = [key for key in self.behaviours if key == "*" or f"{namespace}/{name}".startswith(key)]
        return self.behaviours[max(keys, key=len)] if keys else Behaviour()


def write(path: Path, settings: Settings) -> None:
    """At once, for a reader that may look at any time."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(settings)))
    fresh.replace(path)


def read(path: Path) -> Settings:
    told: dict[str, Any] = json.loads(path.read_text())
    behaviours = {key: Behaviour(**one) for key, one in told.pop("behaviours").items()}
    return Settings(behaviours=behaviours, **told)
