"""SGLang's flags: `add_argument` calls (all of them up to 0.5.13, a few later) and `Annotated` fields.

How a field becomes a flag is arg_groups/arg_utils.py's add_cli_args_from_dataclass (read in 0.5.14, 0.5.18, 0.5.23).
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pipeline.engines.catalogue import Flag
from pipeline.engines.catalogues import UnreadableError
from pipeline.engines.catalogues.source import UNKNOWN, Scope, Sources, text

Kind = Literal["int", "float", "bool", "text", "json"]
_KINDS: Mapping[str, Kind] = {
    "int": "int",
    "human_readable_int": "int",
    "float": "float",
    "json.loads": "json",
    "json_list_type": "json",
    "parse_cuda_graph_config_arg": "json",
}
_DEPRECATED = re.compile(r"^\W*deprecated", re.IGNORECASE)


@dataclass(frozen=True)
class _Option:
    """What an `add_argument` call or an `Arg(...)` says, still as source."""

    names: tuple[str, ...]
    dest: str
    words: Mapping[str, ast.expr]  # keyword arguments
    scope: Scope
    type_name: str  # of `type=`, or of the field
    default: Any

    def says(self, word: str) -> Any:
        """The value of a keyword, None if it is not given."""
        return self.scope.value(self.words[word]) if word in self.words else None


def read(root: Path) -> tuple[Flag, ...]:
    """Every flag of the `sglang` package under `root`.

    Raises:
        UnreadableError: the definitions are not where SGLang 0.5.10 or 0.5.23 have them.
    """
    args = _server_args(root)
    declared = tuple(_declared(args))
    defaults = dict(_plain_fields(args))
    flags = tuple(_flag(option) for option in (*declared, *_added(args, defaults)) if option.names)
    if len(flags) < 100:
        raise UnreadableError(f"{root}: {len(flags)} flags found in sglang/srt/server_args.py, hundreds are expected.")
    return flags


def takes_abbreviations(root: Path) -> bool:
    """Whether `prepare_server_args` builds a parser that takes beginnings of flags, as argparse does by default."""
    scope = _server_args(root).find("prepare_server_args")
    calls = [
        node
        for statement in (scope.body if scope else ())
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and text(node.func) == "argparse.ArgumentParser"
    ]
    if not calls:
        raise UnreadableError(f"{root}: prepare_server_args does not build an argparse.ArgumentParser.")
    # Where there are two (0.5.3 to 0.5.7), the first only reads what a --config file may hold.
    return not any(word.arg == "allow_abbrev" and text(word.value) == "False" for word in calls[-1].keywords)


def _server_args(root: Path) -> Scope:
    found = Sources(root).module("sglang.srt.server_args")
    if not found:
        raise UnreadableError(f"{root}: there is no sglang/srt/server_args.py.")
    return found


def _groups(args: Scope) -> list[Scope]:
    """The classes whose fields are arguments: ServerArgs itself, before it was divided into groups."""
    groups = args.named("_INPUT_NAMESPACES")
    found = [args.find("ServerArgs")] if groups is UNKNOWN else groups
    if not all(isinstance(group, Scope) for group in found):
        raise UnreadableError("sglang/srt/server_args.py: _INPUT_NAMESPACES or ServerArgs cannot be found.")
    return cast("list[Scope]", found)


def _plain_fields(args: Scope) -> Iterator[tuple[str, Any]]:
    """Every field of the argument groups with its default, flag or not."""
    for group in _groups(args):
        for node in group.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                yield node.target.id, group.value(node.value)


def _declared(args: Scope) -> Iterator[_Option]:
    """The fields of the argument groups; those without a flag of their own have no names."""
    for group in _groups(args):
        found = filter(None, (_field(node, group) for node in group.body))
        yield from {option.dest: option for option in found}.values()  # a field that is bound again is one field


def _field(node: ast.stmt, scope: Scope) -> _Option | None:
    match node:
        case ast.AnnAssign(
            target=ast.Name(id=name),
            annotation=ast.Subscript(value=ast.Name(id="A"), slice=ast.Tuple(elts=[type_, *metadata])),
        ):
            about = next(filter(_tells_of_a_flag, metadata), None)
        case _:
            return None
    if about is None:
        return None
    words = {word.arg: word.value for word in about.keywords if word.arg} if isinstance(about, ast.Call) else {}
    option = _Option(
        names=(),
        dest=name,
        words=words if isinstance(about, ast.Call) else {"help": about},
        scope=scope,
        type_name=text(words["type_parser"]) if "type_parser" in words else _bare(type_),
        default=scope.value(node.value) if node.value else None,
    )
    spelled = option.says("cli_name") or "--" + name.replace("_", "-")
    names = () if option.says("no_cli") else (spelled, *(option.says("aliases") or ()))
    return _Option(**{**vars(option), "names": names})


def _tells_of_a_flag(node: ast.expr) -> bool:
    """`Arg(...)` or a help text; other metadata, e.g. NS("serving"), makes no flag of a field."""
    return not isinstance(node, ast.Call) or text(node.func).rpartition(".")[2] == "Arg"


def _bare(node: ast.expr) -> str:
    """A type without Optional."""
    match node:
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return text(inner)
        case ast.BinOp(op=ast.BitOr(), left=inner, right=ast.Constant(value=None)):
            return text(inner)
        case _:
            return text(node)


def _added(args: Scope, defaults: Mapping[str, Any]) -> Iterator[_Option]:
    """The `parser.add_argument` calls of ServerArgs.add_cli_args."""
    server_args = args.find("ServerArgs")
    scope = server_args.find("add_cli_args") if server_args else None
    if not scope:
        raise UnreadableError("sglang/srt/server_args.py: there is no ServerArgs.add_cli_args.")
    for node in scope.body:
        match node:
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr="add_argument"), args=names, keywords=keywords)):
                words = {word.arg: word.value for word in keywords if word.arg}
                yield _call(tuple(scope.value(name) for name in names), words, scope, defaults)


def _call(names: tuple[str, ...], words: Mapping[str, ast.expr], scope: Scope, defaults: Mapping[str, Any]) -> _Option:
    long = next((name for name in names if name.startswith("--")), names[0])
    dest = scope.value(words["dest"]) if "dest" in words else long.lstrip("-").replace("-", "_")
    default = scope.value(words["default"]) if "default" in words else None
    if "default" not in words and "action" in words:
        default = False if text(words["action"]) in {"'store_true'", "DeprecatedStoreTrueAction"} else None
    return _Option(
        names=names,
        dest=dest,
        words=words,
        scope=scope,
        type_name=text(words["type"]) if "type" in words else "str",
        default=defaults.get(dest) if default is UNKNOWN and not _suppressed(words) else default,
    )


def _suppressed(words: Mapping[str, ast.expr]) -> bool:
    """Whether the flag sets nothing where it is not given: another one has the default."""
    return "default" in words and text(words["default"]) == "argparse.SUPPRESS"


def _flag(option: _Option) -> Flag:
    return Flag(
        names=option.names,
        dest=option.dest,
        kind=_kind(option),
        choices=_choices(option),
        default=option.default if isinstance(option.default, int | float | str) else None,
        off=option.names[0].replace("--", "--no-", 1) if _negatable(option) else None,
        many=_many(option),
        deprecated=_deprecated(option),
    )


def _kind(option: _Option) -> Kind:
    action = text(option.words["action"]) if "action" in option.words else ""
    if "store_true" in action or _negatable(option) or (action.startswith("Deprecated") and not _takes_value(option)):
        return "bool"
    if option.type_name == "bool":
        return "bool"
    if option.type_name.startswith("Literal["):
        return _KINDS.get(type(_literals(option)[0]).__name__, "text")
    return _KINDS.get(option.type_name.removeprefix("List[").removeprefix("list[").removesuffix("]"), "text")


def _takes_value(option: _Option) -> bool:
    """Whether a flag with an action of SGLang's own is followed by a word: not if the action's class says nargs=0."""
    if "nargs" in option.words:
        return bool(option.says("nargs") != 0)
    action = option.scope.find(text(option.words["action"]))
    made = action.definition("__init__") if action else None
    if not isinstance(made, ast.FunctionDef):
        return False
    arguments = reversed(made.args.args)
    return not any(
        word.arg == "nargs" and text(default) == "0"
        for word, default in zip(arguments, reversed(made.args.defaults), strict=False)
    )


def _negatable(option: _Option) -> bool:
    return "action" in option.words and text(option.words["action"]).endswith("BooleanOptionalAction")


def _literals(option: _Option) -> list[Any]:
    return cast("list[Any]", option.scope.value(ast.parse(option.type_name, mode="eval").body))


def _choices(option: _Option) -> tuple[str, ...]:
    """Empty where they are computed at run time."""
    found = option.says("choices")
    if found is None and option.type_name.startswith("Literal["):
        found = _literals(option)
    return tuple(map(str, found)) if isinstance(found, list) and UNKNOWN not in found else ()


def _many(option: _Option) -> bool:
    listed = option.type_name.lower().startswith("list[")
    extra = option.scope.value(option.words["action_kwargs"]) if "action_kwargs" in option.words else {}
    return listed or option.says("nargs") in {"+", "*"} or extra.get("nargs") in {"+", "*"}


def _deprecated(option: _Option) -> str | None:
    help_ = option.says("help")
    help_ = help_ if isinstance(help_, str) else ""
    if "action" in option.words and text(option.words["action"]).startswith("Deprecated"):
        return help_ or f"use {option.says('new_flag')}"
    return help_ if _DEPRECATED.match(help_) else None
