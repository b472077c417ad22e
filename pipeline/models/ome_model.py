"""The fields of a model for OME, and which kind of serving runtime serves it. Pure."""

import re
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.plan import OmeModel
from pipeline.core.schema import Config
from pipeline.core.schema_backends import Kubernetes
from pipeline.core.schema_model import Architecture

NODE_MODELS = "/mnt/data/models"  # modelAgent.hostPath of OME's chart: what lies elsewhere is not mounted
PVC_MODEL = "/opt/ml/model"  # where OME mounts the model of a claim in the engine's pod
GIB = 2**30
SCHEMES = ("hf", "oci", "local", "vendor", "pvc")  # OME reads more (pkg/utils/storage), and has no downloader for them
NOT_SERVED = {
    **dict.fromkeys(("s3", "az", "gs", "github"), "OME accepts such a URI but never downloads the model"),
    **dict.fromkeys(("http", "https"), "OME does not support this source"),
}
PVC = re.compile(r"^pvc://(?P<namespace>[a-z0-9-]+):(?P<claim>[a-z0-9.-]+)/(?P<path>.+)$")
# config.json's quant_method in OME's words; others by how wide a weight is, see _quantization
QUANTIZED = {"awq": "int4", "gptq": "int4"}
# Sizes of models that a runtime serves: OME compares them with modelParameterSize, both ends included
SIZES = {"small": ("1M", "20B"), "large": ("20B", "100000B"), "moe": ("1M", "100000B")}
SMALL_B = 20


def of(config: Config) -> OmeModel:
    """The model of a trial in a cluster.

    Raises:
        ConfigError: OME cannot get it from where it is said to be.
    """
    kubernetes, model, arch = _kubernetes(config), config.model, config.model.arch
    uri = _uri(config)
    size, quantization = _size(arch), _quantization(arch)
    architecture = arch.name if arch else None
    if uri.startswith("pvc://") and architecture is None and kubernetes.serving_runtime is None:
        raise ConfigError(
            f"model={model.name}: set backend.kubernetes.serving_runtime, or model.arch with its name. OME reads the "
            "architecture from the claim and needs a serving runtime that names it; here it is not known."
        )
    words = ("servetune", config.runtime.name, size, architecture, quantization)
    return OmeModel(
        name=kubernetes.base_model or dns(model.name),
        uri=uri,
        path=None if uri.startswith("pvc://") else str(inside(config)),
        key=kubernetes.storage.key,
        vendor=model.repo.partition("/")[0] if model.repo else None,
        version=model.revision,
        format="gguf" if config.runtime.needs_gguf else "safetensors",
        architecture=architecture,
        quantization=quantization,
        parameters=_parameters(arch),
        max_tokens=arch.context_tokens if arch else None,
        runtime=kubernetes.serving_runtime or dns("-".join(word for word in words if word)),
        sizes=SIZES.get(size) if size else None,
    )


def inside(config: Config) -> Path:
    """Where the model is in the engine's pod: at its path on the node, a claim's at OME's own.

    Source: OME, pkg/controller/v1beta1/inferenceservice, and its documentation of storage.path.

    Raises:
        ConfigError: as `of`.
    """
    uri, storage = _uri(config), _kubernetes(config).storage
    if uri.startswith("pvc://"):
        return Path(PVC_MODEL)
    if uri.startswith("local://"):
        return Path(storage.path or uri.removeprefix("local://"))
    return Path(storage.path or f"{NODE_MODELS}/{config.model.repo or config.model.name}")


def dns(text: str) -> str:
    """The text as the name of an object, which begins with a letter."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return name if name[:1].isalpha() else f"m-{name}".strip("-")


def _kubernetes(config: Config) -> Kubernetes:
    return config.backend.kubernetes or Kubernetes()


def _uri(config: Config) -> str:
    model, storage = config.model, _kubernetes(config).storage
    if storage.uri is not None:
        _check(storage.uri, config)
        return storage.uri
    if model.path is not None:
        return f"local://{model.path.absolute()}"
    if model.repo is not None:
        return f"hf://{model.repo}@{model.revision}" if model.revision else f"hf://{model.repo}"
    raise ConfigError(
        f"Set backend.kubernetes.storage.uri, e.g. hf://org/model, local:///path/on/the/nodes or "
        f"pvc://namespace:claim/path: for model={model.name} there is no source that a cluster can reach."
    )


def _check(uri: str, config: Config) -> None:
    """Refuse what OME takes without a word and never serves."""
    scheme, _, rest = uri.partition("://")
    key = f"backend.kubernetes.storage.uri={uri}"
    if scheme not in SCHEMES or not rest:
        why = NOT_SERVED.get(scheme, "OME does not know its scheme")
        raise ConfigError(f"{key}: {why}. Expected {', '.join(f'{name}://' for name in SCHEMES)}.")
    if scheme == "local" and not rest.startswith("/"):
        raise ConfigError(f"{key}: expected an absolute path on the nodes, e.g. local:///mnt/data/models/mine.")
    if scheme == "pvc":
        _check_claim(uri, key, _kubernetes(config).cluster.namespace)


def _check_claim(uri: str, key: str, namespace: str | None) -> None:
    found = PVC.match(uri)
    if found is None:
        raise ConfigError(
            f"{key}: expected pvc://namespace:claim/path (a ClusterBaseModel must name the claim's namespace)."
        )
    if namespace != found["namespace"]:
        raise ConfigError(
            f"{key}: set backend.kubernetes.cluster.namespace={found['namespace']}. A claim can be mounted only in its "
            f"own namespace; the trial's namespace is {namespace or 'not set'}."
        )


def _size(arch: Architecture | None) -> str | None:
    if arch is None or not (arch.experts or arch.parameters_b):
        return None
    if arch.experts or not arch.parameters_b:
        return "moe"
    return "small" if arch.parameters_b <= SMALL_B else "large"


def _parameters(arch: Architecture | None) -> str | None:
    """The number of parameters as OME reads it: a number with an upper-case M or B."""
    if arch is None or arch.parameters_b is None:
        return None
    billions = arch.parameters_b
    return f"{billions:.1f}B".replace(".0B", "B") if billions >= 1 else f"{max(1, round(billions * 1000))}M"


def _quantization(arch: Architecture | None) -> str | None:
    """OME's word: fp8, fbgemm_fp8, int4; any other method by its own name."""
    if arch is None or arch.quantization is None:
        return None
    if arch.quantization == "compressed-tensors":  # a container for several kinds
        if not arch.weights_gib or not arch.parameters_b:
            return arch.quantization
        width = arch.weights_gib * GIB / (arch.parameters_b * 1e9)
        return "fp8" if width > 0.75 else "int4"
    return QUANTIZED.get(arch.quantization, arch.quantization)
