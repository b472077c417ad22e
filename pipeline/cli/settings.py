"""The names on the left of an override's `=`, and the values on its right."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pipeline.cli.conf_files import VERSION, ConfFiles, Tree
from pipeline.core.metric_names import known_metrics
from pipeline.engines.versions import versions

HIDDEN = ("hydra.help", "hydra.hydra_logging", "hydra.job_logging", "runtime.knobs")
HELD_OUT = "hydra.sweeper.held_out"


def names(beginning: str, files: ConfFiles, chosen: Mapping[str, str]) -> dict[str, str]:
    """What a name with this beginning may become: a group, a knob, a setting or a section of them."""
    groups = {} if "." in beginning else {f"{group}=": f"option of {group}" for group in files.groups()}
    section, dot, start = beginning.rpartition(".")
    tree = files.tree(chosen)
    below = _at(tree, section)
    keys = [key for key in below if key.startswith(start)] if isinstance(below, dict) else []
    found = {name: meaning for name, meaning in groups.items() if name.startswith(beginning)}
    for key in keys:
        if f"{section}{dot}{key}" not in HIDDEN and not key.startswith("_"):
            found |= _named(f"{section}{dot}{key}", below[key], tree)
    return found


def values(name: str, files: ConfFiles, chosen: Mapping[str, str]) -> dict[str, str] | None:
    """What may stand on the right; None where it may be the name of a file."""
    if name in files.groups() or name == HELD_OUT:
        return files.options("traffic" if name == HELD_OUT else name)
    if name == "objective":
        return dict.fromkeys(known_metrics(), "")
    tree = files.tree(chosen)
    if name == VERSION:
        return dict.fromkeys(versions(str(_at(tree, "runtime.name"))), "")
    if knob := _knobs(tree).get(name):
        return dict.fromkeys(_values_of(knob), str(knob.get("help", "")))
    return _of_kind(name, _at(tree, name))


def _of_kind(name: str, now: Any) -> dict[str, str] | None:
    """As `values`, by what the setting is now."""
    if isinstance(now, bool):
        return {"true": "", "false": ""}
    if now is None or isinstance(now, str):
        return dict.fromkeys(_literals(name), "") or None
    return {}


def _named(name: str, value: Any, tree: Tree) -> dict[str, str]:
    """A key as it is completed, with its meaning; nothing for a knob that this version of the engine lacks."""
    knob = _knobs(tree).get(name)
    if knob:
        below = {f"{name}.": f"keys of {name}"} if isinstance(value, dict) and value else {}
        return {f"{name}=": str(knob.get("help", "")), **below} if _is_there(knob, tree) else {}
    if isinstance(value, dict) and value:
        return {f"{name}.": f"settings of {name}"}
    return {f"{name}=": "" if value is None else f"default: {_shown(value)}"}


def _knobs(tree: Tree) -> Mapping[str, Tree]:
    found: Mapping[str, Tree] = (tree.get("runtime") or {}).get("knobs") or {}
    return found


def _is_there(knob: Tree, tree: Tree) -> bool:
    """Whether the runtime's version has the knob."""
    version = tree["runtime"].get("version")
    if "versions" not in knob or version is None:
        return True
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(knob["versions"]).contains(version, prereleases=True)


def _values_of(knob: Tree) -> list[str]:
    if knob.get("kind") == "bool":
        return ["true", "false", "null"]
    return [*map(str, knob["choices"]), "null"] if knob.get("choices") else []


def _literals(name: str) -> tuple[str, ...]:
    """The words that a setting takes, where they are a closed list."""
    from dataclasses import is_dataclass

    from pipeline.core import schema  # a tenth of a second

    kind: Any = schema.Config
    for part in name.split("."):
        parts = [kind, *get_args(kind)]
        owner = next((one for one in parts if is_dataclass(one)), None)
        if owner is None:
            return ()
        kind = get_type_hints(owner).get(part)
    return get_args(kind) if get_origin(kind) is Literal else ()


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return " ".join(text.split())[:60]


def _at(tree: Tree, name: str) -> Any:
    found: Any = tree
    for part in name.split(".") if name else []:
        found = found.get(part) if isinstance(found, dict) else None
    return found
