"""Knobs that are part of a flag's JSON: one text of the whole, of its keys and of what else was given. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.core.schema import Config, Knob
from pipeline.core.values import Scalar


def of_flag(flag: str, config: Config) -> str:
    """The JSON text that a flag gets, of every knob that is part of it.

    vLLM takes the same as one text and dotted (0.32.0, utils/argparse_utils.py: FlexibleArgumentParser); SGLang only as
    one text.
    """
    version = config.runtime.version
    parts = [(name, knob) for name, knob in config.runtime.knobs.items() if knob.spelled(version) == flag]
    whole = next((config.knobs.get(name) for name, knob in parts if knob.kind == "json" and knob.key is None), None)
    made = {} if whole is None else loaded(whole)
    if not isinstance(made, dict):
        return str(whole)
    for name, knob in parts:
        if knob.key is not None and (setting := config.knobs.get(name)) is not None:
            _put(made, knob.key, loaded(setting) if knob.kind in {"list", "json"} else setting)
    return json.dumps(made)


def merged(config: Config) -> dict[str, dict[str, Any] | None]:
    """By each knob of JSON, what its flag gets; None where nothing is asked, or where it holds no keys."""
    found: dict[str, dict[str, Any] | None] = {}
    for name, knob in config.runtime.knobs.items():
        if knob.kind == "json" and knob.key is None:
            flag = knob.spelled(config.runtime.version)
            made = loaded(of_flag(flag, config))
            found[name] = made if isinstance(made, dict) and made else None
    return found


def loaded(text: Scalar) -> Any:
    """What a JSON text means; the text itself where it is none."""
    try:
        return json.loads(str(text))
    except ValueError:
        return text


def variables(config: Config) -> dict[str, str]:
    """The environment variables that knobs set."""
    asked = ((knob, config.knobs.get(name)) for name, knob in config.runtime.knobs.items() if knob.env)
    return {str(knob.env): variable(setting) for knob, setting in asked if setting is not None}


def variable(setting: Scalar) -> str:
    """As engines read it: 1 and 0 for true and false."""
    return str(int(setting)) if isinstance(setting, bool) else str(setting)


def parent(name: str, knobs: Mapping[str, Knob]) -> str | None:
    """The knob of JSON that a knob is a key of."""
    key = knobs[name].key
    return name.removesuffix(f".{key}") if key else None


def _put(tree: dict[str, Any], path: str, setting: Any) -> None:
    *above, last = path.split(".")
    for part in above:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    tree[last] = setting
