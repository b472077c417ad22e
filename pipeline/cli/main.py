"""`servetune`: one command for everything. Without a command's name it is `python -m pipeline`."""

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path

from pipeline.cli.commands import COMMANDS, HELP, MULTIRUN, SHELLS, WITH_VALUE

OK, BAD_INPUT, INTERRUPTED = 0, 2, 130
QUERY = "--complete"  # asked by the scripts in shells/
SCRIPTS = Path(__file__).with_name("shells")


def main() -> int:
    """The command. Exit codes: those of the command that ran; 2: there is no such command."""
    # A folder named `pipeline` in the working directory is not us: nor for the keepers, workers and jobs that we start
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
        return code  # noqa: TRY300 - flushing is what may fail
    except KeyboardInterrupt:
        sys.stderr.write("Stopped by SIGINT.\n")
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _run(words: Sequence[str]) -> int:
    first, *others = words or [""]
    if first == QUERY:
        return _complete(others[0] if others else "")
    if first in HELP:
        from pipeline.cli import texts

        sys.stdout.write(texts.help_())
        return OK
    if first == "--version":
        from pipeline.cli import texts

        sys.stdout.write(texts.version())
        return OK
    if first == "--completion":
        return _script(others)
    if first in COMMANDS:
        from pipeline.machine import entry

        chosen = COMMANDS[first]
        return entry.run(
            lambda: getattr(import_module(chosen.module), chosen.function)(others, prog=f"servetune {first}")
        )
    return _refuse(words) or _pipeline()


def _pipeline() -> int:
    from pipeline.__main__ import main as run

    return run()


def _refuse(words: Sequence[str]) -> int:
    """Say what is wrong with a first word that is neither a command, an override nor an option; or a late command."""
    if words and "=" not in words[0] and not words[0].startswith(("-", "~", "@")):
        sys.stderr.write(f"error: {words[0]} is not a command.{_nearest(words[0])}\n")
        return BAD_INPUT
    for before, word in pairwise(words):
        if word in COMMANDS and before not in WITH_VALUE:
            more = f" {before}" if before in MULTIRUN else " ..."
            sys.stderr.write(f"error: {word} is a command: write it first, servetune {word}{more}\n")
            return BAD_INPUT
    return OK


def _nearest(word: str) -> str:
    close = difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.5)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"{meant} Expected one of {', '.join(COMMANDS)}, or overrides such as n_threads=2."


def _script(words: Sequence[str]) -> int:
    if len(words) != 1 or words[0] not in SHELLS:
        sys.stderr.write(f"error: --completion {' '.join(words)}: expected one of {', '.join(SHELLS)}.\n")
        return BAD_INPUT
    sys.stdout.write((SCRIPTS / f"servetune.{words[0]}").read_text("utf-8"))
    return OK


def _complete(line: str) -> int:
    """Print what the word at the end of a line may become; exit code 1: a file's name."""
    from pipeline.cli import completion

    found = completion.offers(line)
    if found is None:
        return 1
    sys.stdout.write("".join(f"{word}\t{meaning}\n" for word, meaning in found.items()))
    return OK


if __name__ == "__main__":
    sys.exit(main())
