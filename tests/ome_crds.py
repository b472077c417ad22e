"""The schemas of OME's own resource definitions, as a cluster has them."""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CRDS = Path(__file__).resolve().parent / "resources" / "ome-crds" / "v0.1.5"
KINDS = ("InferenceService", "ClusterBaseModel", "ClusterServingRuntime")


@cache
def schema(kind: str) -> Any:
    """The openAPIV3Schema of the version that is served."""
    text = lzma.decompress((CRDS / f"ome.io_{kind.lower()}s.yaml.xz").read_bytes())
    (version,) = yaml.load(text, Loader=yaml.CSafeLoader)["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]
