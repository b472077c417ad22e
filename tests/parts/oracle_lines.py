"""What the oracles share; runs in an engine's interpreter.

Standard input: a JSON list of command lines; standard output, its last line: a JSON list with what the engine says
against each (null: it would go on).
"""

import contextlib
import io
import json
import sys
from collections.abc import Callable


def answer(ask: Callable[[list[str]], object]) -> None:
    """Put every command line to `ask`, which raises what the engine raises."""
    print(json.dumps([_said(ask, words) for words in json.load(sys.stdin)]))


def _said(ask: Callable[[list[str]], object], words: list[str]) -> str | None:
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            ask(words)
    except SystemExit:  # a parser's, which has said why
        return told.getvalue().strip().splitlines()[-1]
    except Exception as error:  # noqa: BLE001  # whatever it says against it
        return f"{type(error).__name__}: {error}"
    return None
