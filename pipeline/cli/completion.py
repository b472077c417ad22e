"""What the word at the cursor may become: `servetune` is asked by the shell's script at every Tab.

Not Hydra's own completion: that takes seconds, knows neither knobs' values nor our commands, and in bash takes `=` out
of COMP_WORDBREAKS for the whole shell.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.cli import line, settings
from pipeline.cli.commands import COMMANDS, OPTIONS, SHELLS, Command
from pipeline.cli.conf_files import VERSION, ConfFiles
from pipeline.engines.versions import FOLDER

Offers = dict[str, str]  # words, each with its meaning
AFTER_OPTION: Mapping[str, Sequence[str]] = {"--cfg": ("job", "hydra", "all"), "--completion": SHELLS}
FOR_FILES = ("--config-dir", "--wheel", "--to")
PIPELINE = Command(module="", summary="", flags=OPTIONS)
SEARCHPATH = re.compile(r"file://([^\],'\"]+)")


def offers(text: str) -> Offers | None:
    """The words that may stand at the end of this line; None: the name of a file."""
    read = line.read(text)
    if read.before and read.before[0] in COMMANDS:
        return _after_command(COMMANDS[read.before[0]], read.before[1:], read.word)
    found = _after_command(PIPELINE, read.before, read.word)
    if read.before or found is None:
        return found
    commands = {name: command.summary for name, command in COMMANDS.items()}
    return _beginning(read.word, commands) | found


def _after_command(command: Command, before: Sequence[str], word: str) -> Offers | None:
    last = before[-1] if before else ""
    if last in AFTER_OPTION:
        return _beginning(word, dict.fromkeys(AFTER_OPTION[last], ""))
    if last in FOR_FILES or (command.takes == "folder" and not word.startswith("-")):
        return None
    if word.startswith("-"):
        return _beginning(word, {"--help": "help", **command.flags})
    if command.takes == "nothing":
        return {}
    if command.takes == "release":
        return _beginning(word, {f"{path.name}==": "" for path in FOLDER.glob("[a-z]*") if _is_engine(path)})
    return _configured(command, before, word)


def _configured(command: Command, before: Sequence[str], word: str) -> Offers | None:
    """An override, or the runtime that `knobs` takes before them."""
    files, chosen = ConfFiles(tuple(_own_folders(before))), _chosen(before)
    if command.takes == "runtime":
        named = [one for one in before if "=" not in one]
        if not named:
            return _beginning(word, files.options("runtime"))
        chosen["runtime"] = named[0]
    return _override(word, files, chosen)


def _override(word: str, files: ConfFiles, chosen: Mapping[str, str]) -> Offers | None:
    plus = re.match(r"\+{0,2}", word)
    mark = plus[0] if plus else ""
    name, equals, value = word[len(mark) :].partition("=")
    if not equals:
        found = settings.names(name, files, chosen)
        return {f"{mark}{key}": meaning for key, meaning in found.items()}
    values = settings.values(name, files, chosen)
    if values is None:
        return None
    listed = re.match(r"(?:.*[\[,(])?", value)
    head = listed[0] if listed else ""  # of a list, the last element is completed
    there = {*re.split(r"[\[,(]", head)}
    rest = {one: meaning for one, meaning in values.items() if one not in there}
    return {f"{mark}{name}={head}{one}": m for one, m in _beginning(value[len(head) :], rest).items()}


def _chosen(before: Iterable[str]) -> dict[str, str]:
    """The options that the line chooses already; of several, the first."""
    pairs = (word.lstrip("+").partition("=") for word in before if "=" in word)
    return {name: value.split(",")[0] for name, _, value in pairs if "." not in name or name == VERSION}


def _own_folders(before: Sequence[str]) -> Iterator[Path]:
    """Folders with options of the user's own."""
    for option, word in zip(("", *before), before, strict=False):
        if option == "--config-dir":
            yield Path(os.path.expanduser(word))  # noqa: PTH111 - Path's raises for a user without a home
        elif word.startswith(("hydra.searchpath=", "--config-dir=")):
            yield from (Path(found) for found in SEARCHPATH.findall(word) or [word.partition("=")[2]])


def _beginning(word: str, meanings: Mapping[str, str]) -> Offers:
    return {name: meaning for name, meaning in meanings.items() if name.startswith(word)}


def _is_engine(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*.json*"))
