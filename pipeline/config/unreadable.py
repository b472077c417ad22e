"""What is wrong with an override that Hydra cannot read: one sentence, and the override as it would be read. Pure."""

import re
import shlex
from collections.abc import Iterator

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException

USES = {  # Hydra's functions, hydra/core/override_parser/overrides_parser.py: create_functions
    "choice": "choice(a,b,...) with one value or more",
    "range": "range(start,stop) or range(start,stop,step) with numbers; the stop is not one of the values",
    "interval": "interval(low,high) with two numbers",
    "glob": "names of options with a comma between them",
    "tag": "tag(name,values), e.g. tag(log,int(interval(1,64)))",
    "sort": "sort(a,b,...)",
    "shuffle": "shuffle(a,b,...)",
    "int": "int(...) with an integer",
    "float": "float(...) with a number",
    "bool": "bool(...) with true or false",
}
SCENARIO = re.compile(r"""(?<![\w"'])[DNU]\(\s*\d+\s*,\s*\d+\s*\)(?:/\(\s*\d+\s*,\s*\d+\s*\))?(?!["'])""")
KEY = re.compile(r"[+~]{0,2}[\w$]+(?:[./@:-][\w$]+|\[\d+\])*")
PAIRS = {")": "(", "]": "[", "}": "{"}


def sentence(error: OverrideParseException) -> str:
    """What to write instead of a word that was not read."""
    word = str(error.override)
    return f"{_line(word)}: {next(_faults(word, str(error.message)))}."


def _line(word: str) -> str:
    """On one line, whatever it holds."""
    return " ".join(word.split())


def _faults(word: str, said: str) -> Iterator[str]:
    """The likeliest fault first; the last one is always one."""
    key, equals, value = word.partition("=")
    if not equals:
        yield "expected key=value"
    if key != key.strip() or value != value.lstrip():
        yield "write it without spaces around the =: " + shlex.quote(f"{key.strip()}={value.strip()}")
    if not KEY.fullmatch(key):
        yield f"{key or 'nothing'} is not a key: keys are words with dots between them, e.g. traffic.seed=1"
    if value.startswith("="):
        yield "one = is enough: " + shlex.quote(key + "=" + value.lstrip("="))
    if called := re.search(r"while evaluating '(\w+)\(", said):
        yield from _call(word, called[1])
    if mark := _unclosed(value):
        yield f"{mark} is not closed"
    if re.search(r"^,|,,|,$", re.sub(r"\s", "", value)):
        yield "a value is missing beside a comma; write lists without spaces, e.g. n_threads=1,2"
    if value.startswith(("[", "{")) and (mark := _unopened(value)):
        yield f"{mark} closes nothing"
    if right := quoted(word):
        yield f"quote the value: {right}"
    yield "cannot be read; quote the value, e.g. " + shlex.quote(key + '="..."')


def _call(word: str, name: str) -> Iterator[str]:
    key, _, value = word.partition("=")
    if name == "choice" and (values := re.fullmatch(r"choice\((.*)\)", value)) and re.search(r"\bnull\b", value):
        yield "choice() takes no null; a plain list does: " + shlex.quote(f"{key}={''.join(values[1].split())}")
    if name in USES:
        yield f"expected {USES[name]}"


def quoted(word: str) -> str | None:
    """The override with its value as text, for a shell; scenarios of traffic as a list of texts."""
    key, _, value = word.partition("=")
    scenarios = SCENARIO.sub(r'"\g<0>"', value)
    if scenarios != value and key == "traffic.scenarios" and not value.startswith("["):
        scenarios = f"[{scenarios}]"
    whole = value.replace("\\", "\\\\").replace('"', '\\"') if "\n" not in value else ""
    for made in (f"{key}={scenarios}", f'{key}="{whole}"'):
        if made != word and _is_read(made):
            return shlex.quote(made)
    return None


def _is_read(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def _unclosed(value: str) -> str | None:
    """The quotation mark or bracket that begins and does not end; a mark within a word is an apostrophe."""
    within, opened = "", ""
    for before, sign in zip(" " + value, value, strict=False):
        if within:
            within = "" if sign == within and before != "\\" else within
        elif sign in "'\"" and not before.isalnum():
            within = sign
        elif sign in "([{":
            opened += sign
        elif sign in PAIRS and opened.endswith(PAIRS[sign]):
            opened = opened[:-1]
    return within or opened[-1:] or None


def _unopened(value: str) -> str | None:
    return next((sign for sign in ")]}" if value.count(sign) > value.count(PAIRS[sign])), None)
