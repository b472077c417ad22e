"""Manifests compared: with a definition's schema, and with what a cluster has. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

KEPT = ("apiVersion", "kind", "metadata")  # of every object, whatever its schema says
KEEPS_ALL = "x-kubernetes-preserve-unknown-fields"
UNITS = {"M": 1e6, "B": 1e9, "T": 1e12}


def unknown_fields(schema: Mapping[str, Any], manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths in the manifest that the API server would drop without a word.

    `schema` is a version's openAPIV3Schema in a CustomResourceDefinition. Source: Kubernetes, "Field pruning" in
    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/.
    """
    spec = {field: item for field, item in manifest.items() if field not in KEPT}
    return tuple(_unknown(schema, spec, ""))


def _unknown(schema: Mapping[str, Any], node: object, path: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        for field, item in node.items():
            where = f"{path}.{field}" if path else str(field)
            below = _below(schema, str(field))
            if below is None:
                yield where
            else:
                yield from _unknown(below, item, where)
    elif isinstance(node, list | tuple):
        items = schema.get("items") or {KEEPS_ALL: True}
        for spot, item in enumerate(node):
            yield from _unknown(items, item, f"{path}[{spot}]")


def _below(schema: Mapping[str, Any], field: str) -> Mapping[str, Any] | None:
    """The schema of a field; None: it would be dropped."""
    known: Mapping[str, Any] | None = (schema.get("properties") or {}).get(field)
    if known is not None:
        return known
    if schema.get("x-kubernetes-embedded-resource") and field in KEPT:
        return {KEEPS_ALL: True}
    more = schema.get("additionalProperties")
    if isinstance(more, Mapping):
        return more
    return {KEEPS_ALL: True} if more or schema.get(KEEPS_ALL) else None


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    """Where an object that is there does not do what `wanted` is for, in words.

    A model must come from the same place to the same place. A runtime must serve what `wanted` serves; its image and
    flags do not count, as each trial brings its own. Anything else must say all that `wanted` says.
    """
    told = _KINDS.get(str(wanted["kind"]), less)
    return tuple(told(wanted["spec"], found.get("spec") or {}))


def less(wanted: object, found: object, path: str = "spec") -> Iterator[str]:
    """What `wanted` says and `found` does not; lists must be as long, with items that say as much."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for field, item in wanted.items():
            yield from less(item, found.get(field), f"{path}.{field}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for spot, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from less(one, other, f"{path}[{spot}]")
    elif wanted != found:
        yield f"{path} is {found!r}, expected {wanted!r}"


def _model(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    if found.get("disabled"):
        yield "spec.disabled is True"
    storage = found.get("storage") or {}
    for field in ("storageUri", "path"):
        if wanted["storage"].get(field) not in {None, storage.get(field)}:
            yield f"spec.storage.{field} is {storage.get(field)!r}, expected {wanted['storage'][field]!r}"
    name = (found.get("modelFormat") or {}).get("name")
    if name != wanted["modelFormat"]["name"]:
        yield f"spec.modelFormat.name is {name!r}, expected {wanted['modelFormat']['name']!r}"


def _runtime(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    if found.get("disabled"):
        yield "spec.disabled is True"
    if not found.get("engineConfig"):
        yield "spec.engineConfig is missing: OME would start no engine"
    (served,) = wanted["supportedModelFormats"]
    formats = found.get("supportedModelFormats") or []
    if not any(_is_served(served, other) for other in formats):
        has = "; ".join(map(_words, formats)) or "none"
        yield f"spec.supportedModelFormats has no entry for {_words(served)}; it has {has}"


def unserved(model: Mapping[str, Any], runtime: Mapping[str, Any]) -> tuple[str, ...]:
    """Why OME would not serve the model (a ClusterBaseModel) by the runtime (a ClusterServingRuntime), in words."""
    spec, found = model["spec"], runtime.get("spec") or {}
    size, sizes = spec.get("modelParameterSize"), found.get("modelSizeRange")
    reasons = list(_runtime({"supportedModelFormats": [spec]}, found))
    if size and sizes and not _size(sizes.get("min", "")) <= _size(size) <= _size(sizes.get("max", "")):
        reasons.append(f"spec.modelSizeRange is {sizes.get('min')} to {sizes.get('max')}, but the model has {size}")
    return tuple(reasons)


def _is_served(served: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether OME would match the two: a field that only one of them sets counts as a difference.

    Versions are equal or not; OME's operators on them are not followed. Source: OME, pkg/runtimeselector/matcher.go.
    """
    plain = all(served.get(field) == other.get(field) for field in ("modelArchitecture", "quantization"))
    fields = (
        ("modelFormat", "name"),
        ("modelFormat", "version"),
        ("modelFramework", "name"),
        ("modelFramework", "version"),
    )
    return plain and all(_part(served, *field) == _part(other, *field) for field in fields)


def _part(served: Mapping[str, Any], field: str, part: str) -> object:
    return (served.get(field) or {}).get(part)


def _words(served: Mapping[str, Any]) -> str:
    fields = (_part(served, "modelFormat", "name"), _part(served, "modelFormat", "version"))
    framework = (_part(served, "modelFramework", "name"), _part(served, "modelFramework", "version"))
    words = (*fields, *framework, served.get("modelArchitecture"), served.get("quantization"))
    return " ".join(str(word) for word in words if word)


def _size(text: str) -> float:
    """A model size as OME reads it; 0 if OME cannot read it."""
    try:
        return float(text.rstrip("MBT")) * UNITS.get(text[-1:], 1)
    except ValueError:
        return 0.0


_KINDS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[str]]] = {
    "ClusterBaseModel": _model,
    "ClusterServingRuntime": _runtime,
}
