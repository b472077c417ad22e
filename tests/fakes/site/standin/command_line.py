"""The engines' command lines, rebuilt from this project's catalogues with the parser they use: argparse.

Nothing of the project is imported: a start must be quick.
"""

import argparse
import json
import os
import re
from collections.abc import Callable, Collection, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

CATALOGUES = Path(__file__).resolve().parents[4] / "pipeline" / "engines" / "catalogues"
ABSENT: dict[str, Any] = {"choices": [], "default": None, "off": None, "many": False}
_SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def version(engine: str) -> str:
    """STANDIN_VERSION, else what the metadata on the path says."""
    return os.environ.get("STANDIN_VERSION") or metadata.version(engine)


def catalogue(engine: str, version: str) -> dict[str, Any]:
    """What pipeline/engines/history.py reads of the engine's file."""
    first, *lines = (CATALOGUES / engine / "history.jsonl").read_text().splitlines()
    releases: dict[str, Any] = json.loads(first)
    places = {name: place for place, name in enumerate(releases)}
    flags = [json.loads(line) for line in lines]
    there = [flag for flag in flags if any(_holds(span, places, places[version]) for span in flag["in"])]
    return {**releases[version], "flags": [{**ABSENT, **flag} for flag in there]}


def _holds(span: str, places: dict[str, int], at: int) -> bool:
    first, _, last = span.partition("..")
    return places[first] <= at <= places[last or first]


class Switch(argparse.Action):
    """A flag without a value: true, or false by the spelling that says no."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, off: Collection[str], default: object) -> None:
        super().__init__(option_strings, dest, nargs=0, default=default)
        self.off = off

    def __call__(self, _parser: object, namespace: object, _values: object, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, option_string not in self.off)


def human_readable_int(text: str) -> int:
    """vLLM's `8k`. Source: vllm 0.33.0 utils/argparse_utils.py:28."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT])", text.strip())
    return int(float(match[1]) * _SUFFIXES[match[2]]) if match else int(text)


def add(parser: argparse.ArgumentParser, flag: dict[str, Any], of_int: Callable[[str], int] = int) -> None:
    """One flag of a catalogue."""
    names, dest, default = flag["names"], flag["dest"], flag["default"]
    if flag["kind"] == "bool":
        every = [*names, *([flag["off"]] if flag["off"] else [])]
        parser.add_argument(*every, dest=dest, default=default, action=Switch, off=_negative(flag))
        return
    kinds: dict[str, Callable[[str], Any]] = {"int": of_int, "float": float, "text": str, "json": json.loads}
    kind = kinds[flag["kind"]]
    choices = [kind(choice) for choice in flag["choices"]] if flag["choices"] else None
    many = "+" if flag["many"] else None
    parser.add_argument(*names, dest=dest, default=default, type=kind, choices=choices, nargs=many)


def _negative(flag: dict[str, Any]) -> set[str]:
    """`--no-x`, and vLLM's `--disable-x` beside `--enable-x`. Source: vllm 0.33.0 utils/argparse_utils.py:112."""
    first, *others = flag["names"]
    inverse = {"enable": "disable", "disable": "enable"}.get(first[2:].partition("-")[0], "-")
    return {flag["off"], *(name for name in others if name.startswith(f"--{inverse}-"))}


def sglang(argv: Sequence[str], version: str) -> argparse.Namespace:
    """As SGLang parses it; ends with exit code 2 where it does. Source: sglang 0.5.23 srt/server_args.py:679."""
    read = catalogue("sglang", version)
    parser = argparse.ArgumentParser(prog="sglang serve", allow_abbrev=read["abbreviations"])
    for flag in read["flags"]:
        add(parser, flag)
    parsed = parser.parse_args(argv)
    if not parsed.model_path:
        parser.error("the following arguments are required: --model-path/--model")
    return parsed


def vllm(argv: Sequence[str], version: str) -> argparse.Namespace:
    """As vLLM parses `serve ...`. Source: vllm 0.33.0 entrypoints/cli/main.py:70, utils/argparse_utils.py:305."""
    read = catalogue("vllm", version)
    parser = argparse.ArgumentParser(description="vLLM CLI")
    subparsers = parser.add_subparsers(required=False, dest="subparser")
    usage = "vllm serve [model_tag] [options]"
    serve = subparsers.add_parser("serve", usage=usage, allow_abbrev=read["abbreviations"])
    serve.add_argument("model_tag", nargs="?", default=None)
    for flag in read["flags"]:
        add(serve, flag, human_readable_int)
    parsed = parser.parse_args(_flexible(argv))
    if parsed.subparser != "serve":
        parser.print_help()
        parser.exit(0)
    parsed.model = parsed.model_tag or parsed.model
    return parsed


def _flexible(argv: Sequence[str]) -> list[str]:
    """Underscores in flags become dashes, -O3 a flag of its own, --a.b value a piece of JSON."""
    words: list[str] = []
    dotted: dict[str, dict[str, Any]] = {}
    rest = iter(_model_first(argv))
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            words += ["--optimization-level", word[2:].lstrip("=")] if re.match("-O.", word) else [word]
        elif "." in name:
            _nest(dotted, name, value if equals else next(rest, ""))
        else:
            words.append(name.replace("_", "-") + equals + value)
    return [*words, *(part for name, item in dotted.items() for part in (name, json.dumps(item)))]


def _model_first(argv: Sequence[str]) -> list[str]:
    """`serve --model M` is taken too, with a warning."""
    if argv[:1] != ["serve"] or "--model" not in argv[:-1]:
        return list(argv)
    at = argv.index("--model")
    return ["serve", argv[at + 1], *argv[1:at], *argv[at + 2 :]]


def _nest(into: dict[str, dict[str, Any]], name: str, text: str) -> None:
    flag, *keys, last = name.split(".")
    at = into.setdefault(flag.replace("_", "-"), {})
    for key in keys:
        at = at.setdefault(key, {})
    try:
        at[last] = json.loads(text)
    except ValueError:
        at[last] = text
