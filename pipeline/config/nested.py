"""Knobs that are JSON: keys and values of a tree, or a text, as the settings of the knobs that they are of. Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core.schema import Runtime

Kinds = Mapping[str, tuple[str, bool]]  # of each knob: its kind, and whether it is a key of another one's JSON


def taken(data: dict[str, Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Take the setting of every knob out of a tree. `knobs`: as the runtime's file has them."""
    kinds = {str(name): _kind(item) for name, item in knobs.items()}
    found: dict[str, Any] = {}
    for name, (_, is_key) in kinds.items():
        if not is_key:
            found |= _settings(name, data.pop(name, None), kinds)
    return {name: found.get(name) for name in kinds}


def settings(name: str, setting: Any, runtime: Runtime) -> dict[str, Any]:
    """What one override sets: the knob itself, or all knobs of the JSON that it is."""
    return _settings(name, setting, {each: (knob.kind, knob.key is not None) for each, knob in runtime.knobs.items()})


def _kind(item: Any) -> tuple[str, bool]:
    return (str(item.get("kind")), item.get("key") is not None) if isinstance(item, Mapping) else ("", False)


def _settings(name: str, setting: Any, kinds: Kinds) -> dict[str, Any]:
    kind, is_key = kinds[name]
    if kind == "list" and isinstance(setting, list):
        return {name: json.dumps(setting)}
    if kind == "env" and isinstance(setting, bool):
        return {name: int(setting)}  # as engines read it
    if kind != "json":
        return {name: setting}
    keys = {} if is_key else {each: each.removeprefix(f"{name}.") for each in kinds if each.startswith(f"{name}.")}
    if setting is None:
        return dict.fromkeys((name, *keys))
    if isinstance(setting, str):
        setting = _read(setting)
    if not isinstance(setting, Mapping):
        return {name: json.dumps(setting) if isinstance(setting, list) else setting}
    tree = _plain(setting)
    found: dict[str, Any] = {}
    for each, path in keys.items():
        if (seen := _pop(tree, path.split("."))) is not None:
            found |= _settings(each, seen, kinds)
    rest = _without_nulls(tree)
    return {name: json.dumps(rest) if rest else None, **found}


def _read(text: str) -> Any:
    """The keys and values of a JSON text; the text where it holds none."""
    try:
        seen = json.loads(text)
    except ValueError:
        return text
    return seen if isinstance(seen, dict) else text


def _plain(tree: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): _plain(item) if isinstance(item, Mapping) else item for name, item in tree.items()}


def _pop(tree: dict[str, Any], path: Iterable[str]) -> Any:
    """The setting at a path, taken out of the tree; None: there is none, or it has keys of its own."""
    *above, last = path
    for part in above:
        below = tree.get(part)
        if not isinstance(below, dict):
            return None
        tree = below
    return None if isinstance(tree.get(last), dict) else tree.pop(last, None)


def _without_nulls(tree: Mapping[str, Any]) -> dict[str, Any]:
    pruned = {name: _without_nulls(item) if isinstance(item, dict) else item for name, item in tree.items()}
    return {name: item for name, item in pruned.items() if item not in (None, {})}
