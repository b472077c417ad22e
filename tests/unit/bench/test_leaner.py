"""What is left out of genai-bench is what the installed version imports, and no more is asked of it."""

import ast
import sys

import pytest

from pipeline.bench import leaner
from support import genai

LEFT_OUT = {**leaner.REPORTS, **{name: (user,) for name, (user, _) in leaner.USERS.items()}}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_it_is_there_with_these_names(name: str) -> None:
    tree = ast.parse(genai.source(f"{name.partition('.')[2].replace('.', '/')}.py"))
    defined = {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.ClassDef)}
    assert set(LEFT_OUT[name]) <= defined


@pytest.mark.parametrize(("name", "backend"), [(name, backend) for name, (_, backend) in leaner.USERS.items()])
def test_a_user_is_known_by_its_backend(name: str, backend: str) -> None:
    assert f'BACKEND_NAME = "{backend}"' in genai.source(f"{name.partition('.')[2].replace('.', '/')}.py")


@pytest.mark.parametrize("asking", ["cli/cli.py", "cli/report.py", "cli/validation.py", "cli/option_groups.py"])
def test_nothing_else_is_asked_of_it_when_genai_bench_starts(asking: str) -> None:
    for node in ast.parse(genai.source(asking)).body:  # not what is inside functions, which are not called
        if isinstance(node, ast.ImportFrom) and node.module in LEFT_OUT:
            assert {one.name for one in node.names} <= set(LEFT_OUT[node.module])


def test_a_report_that_is_called_all_the_same_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LEFT_OUT:
        monkeypatch.setitem(sys.modules, name, None)  # given back afterwards
    leaner.install()
    with pytest.raises(NotImplementedError, match="leaves genai-bench's reports out"):
        sys.modules["genai_bench.analysis.excel_report"].create_workbook()
