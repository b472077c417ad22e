"""The flags of `transformers serve`: the annotated parameters of `Serve.__init__`, as typer makes options of them.

Source: typer 0.29.2 main.py, get_click_param (transformers up to 5.19); huggingface_hub's cli/_framework.py,
_build_click_param, which does the same where typer is not installed: a parameter is `--its-name`, a bool also
`--no-its-name`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pipeline.engines.catalogue import Flag
from pipeline.engines.catalogues import UnreadableError
from pipeline.engines.catalogues.source import UNKNOWN, Scope, Sources, text

Kind = Literal["int", "float", "bool", "text", "json"]
_MODULE = "transformers.cli.serve"
_KINDS: dict[str, Kind] = {"int": "int", "float": "float", "bool": "bool"}


def read(root: Path) -> tuple[Flag, ...]:
    """Every flag of `transformers serve` in the `transformers` package under `root`; hidden ones too.

    Raises:
        UnreadableError: the command is not defined as in transformers 5.
    """
    module = Sources(root).module(_MODULE)
    if module is None:
        raise UnreadableError(f"{root}: there is no transformers/cli/serve.py.")
    flags = tuple(filter(None, (_flag(*each, module) for each in _parameters(module))))
    if len(flags) < 10:
        raise UnreadableError(f"{root}: {len(flags)} flags found in transformers/cli/serve.py, 20 or so are expected.")
    return flags


def takes_abbreviations(root: Path) -> bool:
    """No: click takes an option only as it is spelled. Source: click 8.4 parser.py, _OptionParser._match_long_opt."""
    del root
    return False


def _parameters(module: Scope) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """The parameters of Serve.__init__ with their defaults, the model's own name too."""
    serve = module.find("Serve")
    made = next((node for node in serve.body if _is_init(node)), None) if serve else None
    if not isinstance(made, ast.FunctionDef):
        raise UnreadableError("transformers/cli/serve.py: there is no class Serve with an __init__.")
    named = made.args.args[1:]
    without: list[ast.expr | None] = [None] * (len(named) - len(made.args.defaults))
    yield from zip(named, [*without, *made.args.defaults], strict=True)


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _flag(parameter: ast.arg, default: ast.expr | None, module: Scope) -> Flag | None:
    """None for an argument that is no option."""
    match parameter.annotation:
        case ast.Subscript(slice=ast.Tuple(elts=[type_, ast.Call(func=func, args=spelled)])):
            pass
        case _:
            return None
    if not text(func).endswith("Option"):
        return None
    dashed = parameter.arg.replace("_", "-")
    names = tuple(str(module.value(name)) for name in spelled) or (f"--{dashed}",)
    kind = _KINDS.get(_bare(type_), "text")
    return Flag(
        names=names,
        dest=parameter.arg,
        kind=kind,
        choices=_choices(type_, module),
        default=_plain(default, module),
        off=f"--no-{dashed}" if kind == "bool" and not spelled else None,
    )


def _bare(node: ast.expr) -> str:
    """A type without `| None` and Optional."""
    match node:
        case ast.BinOp(op=ast.BitOr(), left=inner, right=ast.Constant(value=None)):
            return text(inner)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return text(inner)
        case _:
            return text(node)


def _choices(type_: ast.expr, module: Scope) -> tuple[str, ...]:
    """The values of an enumeration."""
    words = module.find(_bare(type_))
    if words is None:
        return ()
    values = [node.value for node in words.body if isinstance(node, ast.Assign)]
    return tuple(str(module.value(value)) for value in values)


def _plain(node: ast.expr | None, module: Scope) -> Any:
    """A default; of a member of an enumeration (`ReasoningMode.AUTO.value`), its value."""
    inner = node.value if isinstance(node, ast.Attribute) and node.attr == "value" else node
    found = UNKNOWN if inner is None else module.value(inner)
    return found if isinstance(found, int | float | str) else None
