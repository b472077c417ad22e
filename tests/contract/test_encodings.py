"""Text is read and written as UTF-8, whatever the locale: every place in the code says so."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.places import ROOT

MODULES = sorted((ROOT / "pipeline").rglob("*.py"))
ENCODING_AT = {"read_text": 0, "write_text": 1}


def silent(tree: ast.AST) -> Iterator[int]:
    """The lines that leave the encoding to the locale."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = {word.arg: word.value for word in call.keywords}
        if "encoding" not in given and is_text(call, given):
            yield call.lineno


def is_text(call: ast.Call, given: dict[str | None, ast.expr]) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ENCODING_AT:
        return len(call.args) <= ENCODING_AT[name]
    if name in {"run", "Popen"}:
        return "text" in given or "universal_newlines" in given
    if name not in {"open", "fdopen"}:
        return False
    modes = [one.value for one in [*call.args, *given.values()] if isinstance(one, ast.Constant)]
    has_no_mode = len([*call.args, *given]) == (1 if isinstance(call.func, ast.Name) else 0)
    return has_no_mode or any(isinstance(mode, str) and set(mode) <= {*"rwaxt+"} for mode in modes)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_depends_on_the_locale(path: Path) -> None:
    assert [*silent(ast.parse(path.read_bytes()))] == []


@pytest.mark.parametrize(
    ("line", "is_wrong"),
    [
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.read_text(errors='replace')", True),
        ("path.write_text(text)", True),
        ("path.write_text(text, 'utf-8')", False),
        ("open(path)", True),
        ("path.open()", True),
        ("path.open('w')", True),
        ("path.open('wb')", False),
        ("open(path, 'a', encoding='utf-8')", False),
        ("os.fdopen(handle, 'w')", True),
        ("subprocess.run(argv, text=True)", True),
        ("subprocess.run(argv, encoding='utf-8')", False),
        ("channel.open(Question('GET'))", False),
    ],
)
def test_it_is_seen_where_a_line_leaves_it_open(line: str, is_wrong: bool) -> None:
    assert bool([*silent(ast.parse(line))]) == is_wrong
