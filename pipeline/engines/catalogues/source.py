"""Reads Python sources without importing them: constants, lists, Literal types, classes, across modules."""

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from pipeline.engines.catalogues import UnreadableError


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()  # what only running the package would tell
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
    ast.LShift: operator.lshift,
}
_COPIES: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "tuple": list,
    "set": lambda items: sorted(set(items)),
    "frozenset": lambda items: sorted(set(items)),
    "sorted": sorted,
    "get_args": list,
}


class Sources:
    """The Python files under a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, Scope | None] = {}

    def module(self, name: str) -> "Scope | None":
        """The names of a module (`package.module`), or None if there is no such file.

        Raises:
            UnreadableError: the file is no Python that this Python understands.
        """
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> "Scope | None":
        base = self.root.joinpath(*name.split("."))
        for path, package in ((base.with_suffix(".py"), name.rpartition(".")[0]), (base / "__init__.py", name)):
            if path.is_file():
                return Scope(self, _parsed(path).body, package=package)
        return None


class Scope:
    """The names that a module, a class or a function's body binds, each evaluated when asked for.

    Bindings under an `if` count only where nothing unconditional binds the name; everything else that depends on
    running the program is UNKNOWN. Tuples and sets become lists; `Literal[...]` is the list of its words.
    """

    def __init__(
        self, sources: Sources, body: Sequence[ast.stmt], *, package: str, parent: "Scope | None" = None
    ) -> None:
        self.sources = sources
        self.body = list(body)
        self.package = package
        self.parent = parent
        bound = list(_bindings(body))
        classes = {name: node for name, node in bound if isinstance(node, ast.ClassDef)}
        self._bound = {**dict(bound), **classes}  # a class that is replaced by what a call makes of it stays readable
        self._added = list(_additions(body))
        self._busy: set[str] = set()  # a name defined by itself is UNKNOWN

    def named(self, name: str) -> Any:
        """The value bound to a name here or in the enclosing scope."""
        if name in self._busy:
            return UNKNOWN
        if name not in self._bound:
            return self.parent.named(name) if self.parent else UNKNOWN
        self._busy.add(name)
        try:
            return self._with_additions(name, self._bind(self._bound[name]))
        finally:
            self._busy.discard(name)

    def value(self, node: ast.AST | None) -> Any:
        """A plain value, a Scope (of a class, a function or a module) or UNKNOWN."""
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self.named(node.id)
            case ast.Attribute():
                base = self.value(node.value)
                return base.named(node.attr) if isinstance(base, Scope) else UNKNOWN
            case ast.List() | ast.Tuple() | ast.Set():
                return self._items(node.elts)
            case ast.Dict():
                return {self.value(key): self.value(item) for key, item in zip(node.keys, node.values, strict=True)}
            case _:
                return self._computed(node)

    def inner(self, node: ast.ClassDef | ast.FunctionDef) -> "Scope":
        """The names of a class or a function defined here."""
        return Scope(self.sources, node.body, package=self.package, parent=self)

    def definition(self, name: str) -> ast.AST | None:
        """The class, function or expression that a name is bound to here; imports are not followed."""
        found = self._bound.get(name)
        return found if isinstance(found, ast.AST) else None

    def find(self, name: str) -> "Scope | None":
        """The class, function or module of that name, or None."""
        found = self.named(name)
        return found if isinstance(found, Scope) else None

    def _computed(self, node: ast.AST | None) -> Any:
        match node:
            case ast.BinOp():
                compute = _OPERATORS.get(type(node.op))
                return _applied(compute, self.value(node.left), self.value(node.right)) if compute else UNKNOWN
            case ast.UnaryOp(op=ast.USub()):
                return _applied(operator.neg, self.value(node.operand))
            case ast.JoinedStr():
                return _applied("".join, self._items(node.values))
            case ast.Subscript(value=ast.Name(id="Literal") | ast.Attribute(attr="Literal")):
                return self._items(node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice])
            case _:
                return self._taken(node)

    def _taken(self, node: ast.AST | None) -> Any:
        match node:
            case ast.Subscript(value=items, slice=ast.Constant(value=int() as index)):
                return _applied(operator.getitem, self.value(items), index)
            case ast.Call(func=ast.Name(id=name), args=[item]) if name in _COPIES:
                return _applied(_COPIES[name], self.value(item))
            case ast.Call(func=ast.Attribute(attr="keys", value=table), args=[]):
                return _applied(list, self.value(table))
            case ast.Call(func=func, args=[], keywords=[]):
                body = self.value(func)
                return body.returned() if isinstance(body, Scope) else UNKNOWN
            case _:
                return UNKNOWN

    def returned(self) -> Any:
        """What a function's last statement returns, its parameters unknown."""
        last = self.body[-1] if self.body else None
        return self.value(last.value) if isinstance(last, ast.Return) else UNKNOWN

    def _items(self, nodes: Iterable[ast.expr]) -> Any:
        items: list[Any] = []
        for node in nodes:
            found = self.value(node.value if isinstance(node, ast.Starred) else node)
            items += found if isinstance(node, ast.Starred) and isinstance(found, list) else [found]
        return items

    def _bind(self, node: ast.AST | tuple[str, int, str | None]) -> Any:
        if isinstance(node, tuple):
            return self._imported(*node)
        return self.inner(node) if isinstance(node, ast.ClassDef | ast.FunctionDef) else self.value(node)

    def _imported(self, module: str, level: int, name: str | None) -> Any:
        if level:
            parents = self.package.split(".")
            module = ".".join(filter(None, [*parents[: len(parents) - level + 1], module]))
        if name is None:
            return self.sources.module(module) or UNKNOWN
        found = self.sources.module(module)
        here = found.named(name) if found else UNKNOWN
        return here if here is not UNKNOWN else self.sources.module(f"{module}.{name}") or UNKNOWN

    def _with_additions(self, name: str, found: Any) -> Any:
        if not isinstance(found, list):
            return found
        for _, method, node in (added for added in self._added if added[0] == name):
            more = self.value(node)
            found = _applied(operator.add, found, [more] if method in {"append", "add"} else more)
        return found


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: cannot be parsed by this Python: {error}") from error


def _applied(function: Callable[..., Any], *operands: Any) -> Any:
    unknown = any(item is UNKNOWN or (isinstance(item, list) and UNKNOWN in item) for item in operands)
    if unknown:
        return UNKNOWN
    try:
        return function(*operands)
    except (TypeError, ValueError, LookupError):
        return UNKNOWN


def _bindings(body: Iterable[ast.stmt]) -> Iterator[tuple[str, Any]]:
    """(name, what it is bound to), the unconditional ones last."""
    body = list(body)
    for statement in body:
        for block in ("body", "orelse", "handlers"):
            if isinstance(statement, ast.If | ast.Try):
                yield from _bindings(item for item in getattr(statement, block, []) if isinstance(item, ast.stmt))
    for statement in body:
        yield from _bound_by(statement)


def _bound_by(statement: ast.stmt) -> Iterator[tuple[str, Any]]:
    match statement:
        case ast.Assign():
            yield from ((target.id, statement.value) for target in statement.targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as node):
            yield name, node
        case ast.ClassDef() | ast.FunctionDef():
            yield statement.name, statement
        case ast.ImportFrom():
            for alias in statement.names:
                yield alias.asname or alias.name, (statement.module or "", statement.level, alias.name)
        case ast.Import():
            yield from ((alias.asname, (alias.name, 0, None)) for alias in statement.names if alias.asname)


def _additions(body: Iterable[ast.stmt]) -> Iterator[tuple[str, str, ast.expr]]:
    """Literal growth of a list: `X.append(a)`, `X.extend([a])`, `X += [a]`."""
    for statement in body:
        match statement:
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id=name), attr="append" | "extend" | "add" | "update" as method),
                    args=[node],
                )
            ):
                yield name, method, node
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=node):
                yield name, "extend", node


@cache
def text(node: ast.AST) -> str:
    """The source of a node, normalised: for recognising types and calls."""
    return ast.unparse(node)
