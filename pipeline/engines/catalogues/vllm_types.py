"""vLLM's config dataclasses and the types of their fields, as its command line sees them; read, not imported."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.engines.catalogues.source import Scope, text

_BUILTIN = {"bool", "int", "float", "str", "dict"}
_WRAPPERS = {"Annotated", "SkipValidation", "Optional"}  # whose first argument is the type
_COLLECTIONS = {"list", "tuple", "set"}


@dataclass(frozen=True)
class Located:
    """A definition and the module that holds it."""

    scope: Scope
    node: ast.AST


@dataclass(frozen=True)
class Hints:
    """The alternatives of a type: `int | Literal["a"] | None`."""

    names: frozenset[str] = frozenset()  # builtins; "?" for any other type
    words: list[Any] | None = None  # of a Literal
    items: "Hints | None" = None  # of a list, tuple or set
    members: Mapping[str, Any] = field(default_factory=dict)  # of an enum
    dataclass: bool = False

    def __or__(self, other: "Hints") -> "Hints":
        return Hints(
            names=self.names | other.names,
            words=other.words if self.words is None else self.words,
            items=self.items or other.items,
            members={**self.members, **other.members},
            dataclass=self.dataclass or other.dataclass,
        )


@dataclass(frozen=True)
class Field:
    """A field of a dataclass: its type, its default where that is a plain value, and what is said of it."""

    name: str
    hints: Hints
    default: Any = None
    default_member: str | None = None  # the default's name in its enum
    doc: str = ""


@dataclass(frozen=True)
class Class:
    """A class and the module that defines it."""

    scope: Scope
    node: ast.ClassDef

    def lineage(self) -> Iterator["Class"]:
        """Its bases that can be found, then itself."""
        for base in self.node.bases:
            found = class_of(self.scope, text(base))
            if found:
                yield from found.lineage()
        yield self

    def own_method(self, name: str) -> "Method | None":
        """A method that this class itself defines."""
        found = (item for item in self.node.body if isinstance(item, ast.FunctionDef) and item.name == name)
        node = next(found, None)
        return Method(self.scope, node) if node else None

    def method(self, name: str) -> "Method | None":
        """A method, inherited or its own."""
        return next(filter(None, (cls.own_method(name) for cls in reversed(list(self.lineage())))), None)

    def fields(self) -> tuple[Field, ...]:
        """The fields of the dataclass, inherited ones first."""
        found = {item.name: item for cls in self.lineage() for item in cls._own_fields()}
        return tuple(found.values())

    def _own_fields(self) -> Iterator[Field]:
        for place, node in enumerate(self.node.body):
            match node:
                case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=default):
                    if not text(kind).startswith(("ClassVar", "InitVar")):
                        yield self._field(name, kind, _unwrapped(default), _doc(self.node.body[place + 1 : place + 2]))

    def _field(self, name: str, kind: ast.expr, default: ast.expr | None, doc: str) -> Field:
        return Field(
            name=name,
            hints=hints(self.scope, kind),
            default=self.scope.value(default),
            default_member=default.attr if isinstance(default, ast.Attribute) else None,
            doc=doc,
        )


@dataclass(frozen=True)
class Method:
    """A function and the module that defines it."""

    scope: Scope
    node: ast.FunctionDef


def _unwrapped(node: ast.expr | None) -> ast.expr | None:
    """The default in `Field(default=1)` and `field(default=1)`; none of a default_factory."""
    match node:
        case ast.Call(func=ast.Name(id="Field" | "field"), args=args, keywords=keywords):
            given = [word.value for word in keywords if word.arg == "default"]
            return next(iter([*args[:1], *given]), None)
    return node


def _doc(following: list[ast.stmt]) -> str:
    match following:
        case [ast.Expr(value=ast.Constant(value=str(words)))]:
            return words
    return ""


def located(scope: Scope, name: str) -> Located | None:
    """Where a name is defined, imports followed; what only type checkers see does not count."""
    for statement in reversed(list(_running(scope.body))):
        match statement:
            case ast.ClassDef(name=found) | ast.FunctionDef(name=found) if found == name:
                return Located(scope, statement)
            case ast.Assign(targets=[ast.Name(id=found)], value=node) if found == name:
                return Located(scope, node)
            case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as node) if found == name:
                return Located(scope, node)
            case ast.ImportFrom(names=aliases):
                wanted = [alias.name for alias in aliases if name == (alias.asname or alias.name)]
                wanted += [name for alias in aliases if alias.name == "*"]
                there = _imported(scope, statement, wanted[0]) if wanted else None
                if there:
                    return there
    return None


def _running(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If):
            yield from _running(statement.orelse if text(statement.test) == "TYPE_CHECKING" else statement.body)
        else:
            yield statement


def _imported(scope: Scope, statement: ast.ImportFrom, name: str) -> Located | None:
    parents = scope.package.split(".")
    base = parents[: len(parents) - statement.level + 1] if statement.level else []
    module = scope.sources.module(".".join([*base, *filter(None, [statement.module])]))
    return located(module, name) if module else None


def class_of(scope: Scope, name: str) -> Class | None:
    """The class of that name, or None."""
    found = located(scope, name)
    return Class(found.scope, found.node) if found and isinstance(found.node, ast.ClassDef) else None


def hints(scope: Scope, node: ast.AST) -> Hints:
    """The type that an annotation means, aliases resolved."""
    match node:
        case ast.Constant(value=None):
            return Hints()
        case ast.Constant(value=str(words)):
            return hints(scope, ast.parse(words, mode="eval").body)
        case ast.BinOp(left=left, right=right):
            return hints(scope, left) | hints(scope, right)
        case ast.Subscript(value=holder, slice=inner):
            return _subscripted(scope, text(holder), inner)
        case ast.Name(id=name):
            return _named(scope, name)
        case _:
            return Hints(names=frozenset({"?"}))


def _subscripted(scope: Scope, holder: str, inner: ast.expr) -> Hints:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if holder == "Literal":
        return Hints(words=list(_flat(scope.value(part) for part in parts)))
    if holder in _WRAPPERS:
        return hints(scope, parts[0])
    if holder == "Union":
        found = Hints()
        for part in parts:
            found |= hints(scope, part)
        return found
    if holder in _COLLECTIONS:
        return Hints(items=hints(scope, parts[0]))
    return Hints(names=frozenset({holder if holder in _BUILTIN else "?"}))


def _flat(items: Iterable[Any]) -> Iterator[Any]:
    """A Literal may hold others: Literal["a", Literal["b"]]."""
    for item in items:
        yield from _flat(item) if isinstance(item, list) else (item,)


def _named(scope: Scope, name: str) -> Hints:
    found = located(scope, name)
    if found is None or name in _BUILTIN:
        return Hints(names=frozenset({name if name in _BUILTIN else "?"}))
    if not isinstance(found.node, ast.ClassDef):
        return hints(found.scope, found.node)
    return _class_hints(Class(found.scope, found.node))


def _class_hints(cls: Class) -> Hints:
    bases = {text(base) for base in cls.node.bases}
    if any(base.endswith("Enum") for base in bases):
        return Hints(names=frozenset({"?"}), members=_members(cls))
    if any(base.startswith("dict") for base in bases):
        return Hints(names=frozenset({"dict"}))
    decorated = [text(node) for node in cls.node.decorator_list]
    is_dataclass = any(word.partition("(")[0] in {"config", "dataclass"} for word in decorated)
    return Hints(names=frozenset({"?"}), dataclass=is_dataclass)


def _members(cls: Class) -> dict[str, Any]:
    assigned = (node for node in cls.node.body if isinstance(node, ast.Assign))
    return {
        target.id: cls.scope.value(node.value)
        for node in assigned
        for target in node.targets
        if isinstance(target, ast.Name) and not target.id.startswith("_")
    }
