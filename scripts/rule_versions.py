"""In which releases the code is that a rule was read from: `python scripts/rule_versions.py vllm 'vllm>=0.14'`.

For each place in the `source` of a rule (release, file, line) it takes the smallest statement there with a condition or
a `raise`, and looks for the same code in the other releases, in a file of that name or one that decides on settings:
code moves. Layout, and who is asked (`self.`, `args.`), do not count. It prints the rules whose `versions` do not fit,
and places that do not resolve; the exit code is 1 where a place does not resolve. Code that was rewritten counts as
absent, so the range is one that is certain, not the widest. Sources are fetched once, into --sources.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from pipeline.core.places import cache_dir
from pipeline.core.schema import is_of
from pipeline.engines import verdict
from pipeline.engines.catalogues import wheel

PLACE = re.compile(r"(\d+\.\d+\.\d+(?:\.post\d+)?)|([\w/]+\.py)(?::(\d+))?")
SETTINGS = re.compile(r"/(arg_groups|config|platforms)/|/(server_args|arg_utils)\.py$")


def main() -> int:
    """Print what does not fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rules", help="vllm or sglang")
    parser.add_argument("releases", help="the releases to look at, e.g. 'vllm>=0.14'")
    parser.add_argument("--sources", type=Path, default=cache_dir() / "sources")
    options = parser.parse_args()
    asked = Requirement(options.releases)
    roots = {version: _fetched(asked.name, version, options.sources) for version in _versions(asked)}
    lost = 0
    for rule in verdict.load(options.rules):
        for version, file, line in places(rule.source):
            path = resolved(roots.get(version), asked.name, file) if version in roots else None
            if version in roots and path is None:
                lost += 1
                print(f"{rule.id}: {version} {file} does not resolve")
            if path and line:
                _compare(rule, version, path, line, roots)
    return 1 if lost else 0


def places(source: str) -> Iterator[tuple[str, str, int | None]]:
    """(release, file, line) of a rule's `source`: a file without release is of the one before it."""
    version = ""
    for found in PLACE.finditer(source):
        if found[1]:
            version = found[1]
        else:
            yield version, found[2], int(found[3]) if found[3] else None


def resolved(root: Path | None, engine: str, file: str) -> Path | None:
    """The file from the package root, or None."""
    path = (root or Path()) / engine / file
    return path if root and path.is_file() else None


def _versions(asked: Requirement) -> list[str]:
    return sorted(asked.specifier.filter(wheel.releases(asked.name)), key=Version)


def _fetched(engine: str, version: str, folder: Path) -> Path:
    root = folder / engine / version
    if not root.is_dir():
        part = root.with_name(f"{version}.part")
        wheel.sources(wheel.find(engine, version), part, lambda _so_far, _total: None)
        part.rename(root)
    return root


def _compare(rule: verdict.Rule, version: str, path: Path, line: int, roots: dict[str, Path]) -> None:
    code = _statement(path, line)
    if len(code) < 30:
        return
    having = [name for name, root in roots.items() if code in _settings(root) or code in _named(root, path.name)]
    claimed = [name for name in roots if is_of(rule.versions, name)]
    if having != claimed:
        print(f"{rule.id} ({rule.verdict}, {rule.versions or 'all'}; {version}): {_ranges(having, list(roots))}")


def _ranges(having: list[str], order: list[str]) -> str:
    spans: list[list[str]] = []
    for name in having:
        if spans and order.index(spans[-1][1]) + 1 == order.index(name):
            spans[-1][1] = name
        else:
            spans.append([name, name])
    return " ".join(f"{first}..{last}" for first, last in spans) or "nowhere"


def _statement(path: Path, line: int) -> str:
    nodes = [node for node in ast.walk(_parsed(path)) if isinstance(node, ast.stmt) and _spans(node, line)]
    nodes = [node for node in nodes if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    wide = [node for node in nodes if isinstance(node, ast.If | ast.Assert | ast.Raise | ast.Return)]
    best = min(wide or nodes, key=_length, default=None)
    outer = [node for node in nodes if isinstance(node, ast.If) and best in node.body] if best else []
    chosen = min(outer, key=_length) if isinstance(best, ast.Raise) and outer else best
    return _plain(ast.get_source_segment(_text(path), chosen) or "") if chosen else ""


def _spans(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno


@cache
def _text(path: Path) -> str:
    return path.read_text("utf-8")


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(_text(path))


@cache
def _settings(root: Path) -> str:
    """The code that decides on settings, where most of what is cited lies."""
    return _joined(path for path in _files(root) if SETTINGS.search(str(path.relative_to(root))))


@cache
def _named(root: Path, name: str) -> str:
    return _joined(path for path in _files(root) if path.name == name)


@cache
def _files(root: Path) -> tuple[Path, ...]:
    return tuple(sorted(root.rglob("*.py")))


def _joined(paths: Iterable[Path]) -> str:
    return "\n".join(_plain(path.read_text("utf-8", "replace")) for path in paths)


def _plain(code: str) -> str:
    code = re.sub(r"(?m)#.*$", "", code)
    code = re.sub(r"\b(self|server_args|args|cfg|sa|cls)\.", "", code)
    return re.sub(r"[\s,()\"']+", "", code)


if __name__ == "__main__":
    sys.exit(main())
