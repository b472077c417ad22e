"""The flags of `vllm serve`, whose parser is made from the fields of config dataclasses (vllm/engine/arg_utils.py).

What the parser does beyond argparse (vllm/utils/argparse_utils.py) and a catalogue cannot say: underscores in names are
dashes, `--json-arg.key value` sets a key of a JSON flag, and -O3 is --optimization-level 3. An enum's choices are not
argparse's: its parser takes any word, and the config class refuses the unknown ones. Further words that say no
(--disable-prefix-caching beside --no-enable-prefix-caching) are listed as names, after the flag's own.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.engines.catalogue import Flag
from pipeline.engines.catalogues import UnreadableError, vllm_types
from pipeline.engines.catalogues.source import Scope, Sources, text
from pipeline.engines.catalogues.vllm_types import Class, Field

Kind = Literal["int", "float", "bool", "text", "json"]
_COMMAND = "vllm.entrypoints.cli.serve"  # it imports make_arg_parser, which moved between releases
_INVERSE = {"--enable-": "--disable-", "--disable-": "--enable-"}
_PARSERS = ("utils/argparse_utils.py", "entrypoints/cli/serve.py", "entrypoints/cli/main.py")


def read(root: Path) -> tuple[Flag, ...]:
    """Every flag of `vllm serve`, in the order in which its parser defines them.

    Raises:
        UnreadableError: the sources do not define their flags as expected here.
    """
    sources = Sources(root)
    module = sources.module(_COMMAND)
    maker = vllm_types.located(module, "make_arg_parser") if module else None
    if maker is None or not isinstance(maker.node, ast.FunctionDef):
        raise UnreadableError(f"vLLM: {_COMMAND} under {root} imports no make_arg_parser, as it does since 0.10.1")
    reader = _Reader(_Dialect.of(sources))
    reader.run(maker.node.body, maker.scope)
    if not reader.flags:
        raise UnreadableError(f"vLLM: {text(maker.node)[:80]} adds no flags")
    return tuple(reader.flags)


def takes_abbreviations(root: Path) -> bool:
    """Whether `--max-num-s` does for --max-num-seqs: argparse's habit, which nothing turns off."""
    try:
        return not any("allow_abbrev" in (root / "vllm" / path).read_text(encoding="utf-8") for path in _PARSERS)
    except FileNotFoundError as error:
        raise UnreadableError(f"vLLM: there is no {error.filename}, where the parser is since 0.10.1.") from error


@dataclass(frozen=True)
class _Dialect:
    """What the versions do differently."""

    pairs: bool  # --disable-x beside --enable-x
    optional_words: bool  # a flag of `bool | str` may have a word; before, it was a switch

    @classmethod
    def of(cls, sources: Sources) -> "_Dialect":
        parser, engine = sources.module("vllm.utils.argparse_utils"), sources.module("vllm.engine.arg_utils")
        code = "\n".join(text(node) for node in engine.body if isinstance(node, ast.FunctionDef)) if engine else ""
        return cls(pairs=bool(parser and parser.find("EnableDisableAction")), optional_words="'nargs'] = '?'" in code)


@dataclass
class _Option:
    """The keywords that one add_argument gets, as far as they matter here."""

    kind: Kind = "text"
    choices: tuple[str, ...] = ()
    default: Any = None
    paired: bool = False  # BooleanOptionalAction: there is a flag that says no
    many: bool = False
    dest: str | None = None
    note: str = ""  # help, which tells of deprecation


@dataclass
class _Reader:
    """Follows add_cli_args and its like, statement by statement."""

    dialect: _Dialect
    flags: list[Flag] = field(default_factory=list)
    tables: dict[str, Any] = field(default_factory=dict)  # variables: what get_kwargs said, or one option of it
    owner: Class | None = None  # the class whose `cls` it is

    def run(self, body: Iterable[ast.stmt], scope: Scope) -> None:
        for statement in body:
            match statement:
                case ast.If():
                    self.run(statement.body, scope)
                case ast.Assign(targets=[ast.Name(id=name)], value=node):
                    self._assign(name, node, scope)
                case ast.Assign(targets=[ast.Subscript(value=holder, slice=ast.Constant(value=key))], value=node):
                    self._set(self._option(holder, scope), str(key), node, scope)
                case ast.AugAssign(target=ast.Subscript(value=holder, slice=ast.Constant(value="choices"))):
                    self._option(holder, scope).choices = ()  # grown by what only running would tell
                case ast.Delete(targets=[ast.Subscript(value=holder, slice=ast.Constant(value="nargs"))]):
                    self._option(holder, scope).many = False
                case ast.Expr(value=ast.Call() as call):
                    self._call(call, scope)
                case ast.For(iter=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="items"))):
                    for key, option in self.tables[name].items():
                        self._add((f"--{key.replace('_', '-')}",), option)

    def _assign(self, name: str, node: ast.expr, scope: Scope) -> None:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=cls), attr="add_cli_args")):
                self._follow(scope, cls)
            case ast.Call(func=ast.Attribute(attr="_customize_cli_kwargs")):
                self._customise(self.tables[name])
            case ast.Call(func=ast.Name(id="get_kwargs")) | ast.Subscript():
                self.tables[name] = self._looked_up(node, scope)

    def _follow(self, scope: Scope, name: str) -> None:
        owner = vllm_types.class_of(scope, name)
        method = owner.method("add_cli_args") if owner else None
        if owner is None or method is None:
            raise UnreadableError(f"vLLM: no {name}.add_cli_args")
        # A sub-reader has variables of its own and adds to the same flags.
        _Reader(self.dialect, self.flags, owner=owner).run(method.node.body, method.scope)

    def _customise(self, table: dict[str, _Option]) -> None:
        for cls in self.owner.lineage() if self.owner else ():
            method = cls.own_method("_customize_cli_kwargs")
            if method:
                inner = _Reader(self.dialect, tables={"frontend_kwargs": table})
                inner.run(method.node.body, method.scope)

    def _looked_up(self, node: ast.AST, scope: Scope) -> Any:
        match node:
            case ast.Call(func=ast.Name(id="get_kwargs"), args=[ast.Name(id=name)]):
                cls = self.owner if name == "cls" else vllm_types.class_of(scope, name)
                if cls is None:
                    raise UnreadableError(f"vLLM: no class {name} for get_kwargs")
                return {item.name: _option(item, self.dialect) for item in cls.fields()}
            case ast.Subscript(value=holder, slice=ast.Constant(value=key)):
                table = self._looked_up(holder, scope)
                return table.get(key) if isinstance(table, dict) else None
            case ast.Name(id=name):
                return self.tables.get(name)
        return None

    def _option(self, node: ast.AST, scope: Scope) -> _Option:
        found = self._looked_up(node, scope)
        if not isinstance(found, _Option):
            raise UnreadableError(f"vLLM: {text(node)} is no field of a config class")
        return found

    def _call(self, call: ast.Call, scope: Scope) -> None:
        match call.func:
            case ast.Attribute(attr="add_argument"):
                self._argument(call, scope)
            case ast.Attribute(attr="remove", value=ast.Subscript(value=holder, slice=ast.Constant(value="choices"))):
                option, gone = self._option(holder, scope), scope.value(call.args[0])
                option.choices = tuple(item for item in option.choices if item != gone)

    def _argument(self, call: ast.Call, scope: Scope) -> None:
        names = tuple(str(item.value) for item in call.args if isinstance(item, ast.Constant))
        option = _Option()
        for keyword in call.keywords:
            if keyword.arg:
                self._set(option, keyword.arg, keyword.value, scope)
            else:
                option = self._spread(keyword.value, scope)
        if names[0].startswith("-"):
            self._add(names, option)

    def _spread(self, node: ast.expr, scope: Scope) -> _Option:
        if not isinstance(node, ast.Dict):
            return replace(self._option(node, scope))
        option = _Option()
        for key, item in zip(node.keys, node.values, strict=True):
            if key is None:
                option = replace(self._option(item, scope))
            elif isinstance(key, ast.Constant):
                self._set(option, str(key.value), item, scope)
        return option

    def _set(self, option: _Option, key: str, node: ast.expr, scope: Scope) -> None:
        match key:
            case "type":
                option.kind = _parsed_as(node)
            case "action":
                _act(option, text(node))
            case "nargs":
                option.many = scope.value(node) in {"+", "*"}
            case "choices":
                option.choices = _words(scope.value(node))
            case "default":
                option.default = _plain(scope.value(node))
            case "dest":
                option.dest = str(scope.value(node))
            case "help":
                option.note = str(scope.value(node))

    def _add(self, names: tuple[str, ...], option: _Option) -> None:
        names = tuple(sorted(names, key=lambda name: not name.startswith("--")))
        no = [f"--no-{name.removeprefix('--')}" for name in names if option.paired and name.startswith("--")]
        inverses = _inverses(names) if option.paired and self.dialect.pairs else ()
        short = ("-O",) if names[0] == "--optimization-level" else ()
        self.flags.append(
            Flag(
                names=(*names, *short, *no[1:], *inverses),
                dest=option.dest or names[0].lstrip("-").replace("-", "_"),
                kind=option.kind,
                choices=option.choices,
                default=option.default,
                off=no[0] if no else None,
                many=option.many,
                deprecated=_deprecation(option.note),
            )
        )


def _inverses(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        for prefix, inverse in _INVERSE.items():
            if name.startswith(prefix):
                yield inverse + name.removeprefix(prefix)


def _option(item: Field, dialect: _Dialect) -> _Option:
    """What get_kwargs makes of a field of a config class."""
    hints = item.hints
    made = _Option(default=_plain(item.default), note=item.doc)
    if hints.dataclass:
        return replace(made, kind="json", default=None)
    if {"bool", "str"} <= hints.names and dialect.optional_words:
        return made
    if "bool" in hints.names:
        return replace(made, kind="bool", paired=True)
    if hints.words is not None:
        kind: Kind = "int" if all(isinstance(word, int) for word in hints.words) else "text"
        return replace(made, kind=kind, choices=() if "str" in hints.names else _words(sorted(hints.words)))
    if hints.items is not None:
        inner = _option(replace(item, hints=hints.items), dialect)
        return replace(inner, kind="text" if len(hints.items.names) > 1 else inner.kind, many=True)
    return _scalar(made, item)


def _scalar(made: _Option, item: Field) -> _Option:
    names = item.hints.names
    for kind in ("int", "float"):
        if kind in names:
            return replace(made, kind=kind)
    if item.hints.members:  # of an enum: numbers are given as such, others by name
        words = tuple(item.hints.members.values())
        if all(isinstance(word, int) for word in words):
            return replace(made, kind="int", choices=_words(words))
        return replace(made, choices=tuple(item.hints.members), default=item.default_member)
    return replace(made, kind="json" if "dict" in names and not names & {"str", "?"} else "text")


def _parsed_as(node: ast.expr) -> Kind:
    """The kind that a `type=` callable makes of a word."""
    code = text(node)
    if "json.loads" in code:
        return "json"
    if isinstance(node, ast.Call) and node.args:  # optional_type(int)
        return _parsed_as(node.args[0])
    names: Mapping[str, Kind] = {"int": "int", "float": "float"}
    return "int" if code.startswith("human_readable_int") else names.get(code, "text")


def _act(option: _Option, action: str) -> None:
    if action == "'append'":
        option.many = True
    elif action.endswith("BooleanOptionalAction"):
        option.kind, option.paired = "bool", True
    elif action in {"'store_true'", "'store_false'"}:
        option.kind, option.default = "bool", action == "'store_false'"


def _plain(item: Any) -> Any:
    return item if isinstance(item, int | float | str) else None


def _words(items: Any) -> tuple[str, ...]:
    known = items if isinstance(items, list | tuple) else []
    return tuple(str(item) for item in known if item is not None) if all(map(_is_plain, known)) else ()


def _is_plain(item: Any) -> bool:
    return item is None or isinstance(item, int | float | str)


def _deprecation(note: str) -> str | None:
    parts = re.split(r"(?<=\.)\s", note)
    told = [part for part in parts if re.search(r"is deprecated|deprecated[\]:]", part, re.IGNORECASE)]
    return " ".join(told[0].split()) if told else None
