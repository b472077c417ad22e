"""The schemas of OME's own resource definitions, as a cluster has them."""

from __future__ import annotations

import lzma
from functools import cache
from typing import Any

import yaml

from support.places import OME_CRDS

KINDS = ("InferenceService", "ClusterBaseModel", "ClusterServingRuntime")


@cache
def schema(kind: str) -> Any:
    """The openAPIV3Schema of the version that is served."""
    text = lzma.decompress((OME_CRDS / f"ome.io_{kind.lower()}s.yaml.xz").read_bytes())
    (version,) = yaml.load(text, Loader=yaml.CSafeLoader)["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]
