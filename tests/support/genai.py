"""What the installed genai-bench says of itself, without importing it: gevent would patch the tests' own process."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path


def choices(option: str) -> list[str]:
    """The values that one option of its command line takes."""
    for call in ast.walk(ast.parse(source("cli/option_groups.py"))):
        if isinstance(call, ast.Call) and [ast.unparse(argument) for argument in call.args[:1]] == [repr(option)]:
            kind = next(keyword.value for keyword in call.keywords if keyword.arg == "type")
            return [
                str(item.value) for item in ast.walk(kind) if isinstance(item, ast.Constant) and item.value is not True
            ]
    raise LookupError(option)


def sanitized(texts: list[str]) -> list[str]:
    """The texts as genai-bench spells them in file names."""
    code = "import json, sys; from genai_bench.utils import *; print(json.dumps([*map(sanitize_string, sys.argv[1:])]))"
    done = subprocess.run([sys.executable, "-c", code, *texts], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def source(path: str) -> str:
    spec = importlib.util.find_spec("genai_bench")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / path).read_text()
