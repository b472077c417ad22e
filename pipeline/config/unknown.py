"""What is said of a key or an option that does not exist: what was meant, and what there is."""

import re
import shlex
from collections.abc import Callable, Sequence

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from pipeline.config import endpoints
from pipeline.config.parse import ENVIRONMENTS
from pipeline.core.places import CONF
from pipeline.core.words import listed, meant
from pipeline.engines import one_node

OPEN = ("slo.limits", *ENVIRONMENTS)  # sections that take any key, with a +
MISSING = {  # an option that many a key of the section comes with
    "hydra.sweeper": " The keys of a search belong to hydra/sweeper=tuner, the default.",
    "hydra.launcher": " Add hydra/launcher=parallel to run several trials at once.",
}
KINDS = {  # OmegaConf's words
    "to Integer": "a whole number",
    "to Float": "a number",
    "valid bool": "true or false",
    "to string": "a text",
    "to DictConfig": "keys and values",
}
OF_HYDRA = ("hydra/launcher", "hydra/sweeper", "hydra/sweeper/sampler")


def explained(error: Exception, overrides: Sequence[str], engines: Callable[[], Sequence[str]] = tuple) -> str:
    """Hydra's words; for an unknown key or option, those there are and whose they may be.

    `engines`: the options of the group runtime, whose names may stand before a key.
    """
    text = str(error) + (f" {error.__cause__}" if error.__cause__ else "")
    if option := re.search(r"Could not (?:find|load) '([\w/.-]+)/([^/']*)'", text):
        return _unknown_option(option[1], option[2], re.findall(r"(?m)^\t(\S+)$", text))
    if unknown := re.search(r"Could not override '([\w./@-]+)'.* (?:is not in struct|not in '\w+')", text, re.DOTALL):
        key = unknown[1]
        if "/" in key:
            return _unknown_option(key, None, [*sorted(groups() - {"hydra"}), *OF_HYDRA])
        tree = compose("config", overrides=[line for line in overrides if is_choice(line)], return_hydra_config=True)
        line = next((line for line in overrides if line.startswith(f"{key}=")), "")
        return _unknown_key(key, tree, line, engines()) if "." in key else _unknown_knob(key, tree)
    if "group override must be a string or a list" in text:
        return _no_option(overrides)
    if told := _of_hydra(text):
        return told
    text = re.sub(r"(?s)\s+full_key: \S+\s+(?:reference_type|object_type)=.*", "", text)
    for noise in ("\nfull_key:", "\nConfig search path:", "\nSee https:"):
        text = text.split(noise)[0]
    return " ".join(text.split())


def _of_hydra(text: str) -> str | None:
    """What Hydra says of an option that is chosen twice, or of a value for one of its own keys."""
    if twice := re.search(r"Multiple values for ([\w/]+)\. To override a value use 'override [\w/]+: ([^']+)'", text):
        return f"{twice[1]} is chosen already: write {twice[1]}={twice[2]}, without a +."
    if nowhere := re.search(r"Could not override '([^']+)'\. No match in the defaults list", text):
        return f"{nowhere[1]} is neither a key nor a group of options; groups are {', '.join(sorted(groups()))}."
    wrong = re.search(r"Error merging override (\S+)\s+(.*)", text)
    if wrong is None:
        return None
    among = re.search(r"expected one of \[([^\]]+)\]", wrong[2])
    expected = [f"one of {among[1]}"] if among else [words for word, words in KINDS.items() if word in wrong[2]]
    return f"{wrong[1]}: expected {next(iter(expected), 'another kind of value')}."


def _unknown_option(group: str, option: str | None, known: Sequence[str]) -> str:
    """`option` None: the group itself does not exist."""
    there = listed(option or group, known, by="servetune --help")
    if option is None:
        return f"{group} is not a group of options.{meant(group, known)} There are: {there}."
    return f"{group}={option} is not an option.{meant(option, known)} {group} has: {there}."


def _no_option(overrides: Sequence[str]) -> str:
    """A group was set to something that is no name."""
    line = next((line for line in overrides if line.partition("=")[0] in {*groups(), *OF_HYDRA}), "")
    for each in overrides:
        group, _, option = each.partition("=")
        if group in {*groups(), *OF_HYDRA} and not re.fullmatch(r"[A-Za-z_][\w./-]*", option.replace("null", "")):
            line = each
    group = line.partition("=")[0]
    names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    return f"{line}: expected the name of an option. {group} has: {', '.join(names)}."


def _unknown_knob(key: str, tree: DictConfig) -> str:
    knobs = list(tree.runtime.knobs)
    known = [*knobs, *(str(name) for name in tree if name not in knobs)]
    owned = _owned(key)
    if owned and tree.backend.target == endpoints.TARGET:
        return endpoints.why_not(key)
    owned += f" {one_node.WHY}" * (key in one_node.WORDS)
    close = "" if key in one_node.WORDS else meant(key, known)
    there = (
        f"Its knobs: {listed(key, knobs, by=f'servetune knobs {tree.runtime.name}')}." if knobs else "It has no knobs."
    )
    return f"{key} is not a knob of runtime={tree.runtime.name}.{close}{owned} {there}"


def _owned(key: str) -> str:
    """The engines that have a knob."""
    runtimes = sorted((CONF / "runtime").glob("*.yaml"))
    owners = [path.stem for path in runtimes if re.search(rf"(?m)^{key}:(?: null)?$", path.read_text("utf-8"))]
    return f" It is a knob of runtime={' and runtime='.join(owners)}." if owners else ""


def _unknown_key(key: str, tree: DictConfig, line: str, engines: Sequence[str]) -> str:
    parent, _, name = key.rpartition(".")
    section = OmegaConf.select(tree, parent)
    if key in OPEN or parent in OPEN:
        return f"{key}: put a + in front: {shlex.quote(f'+{line}') if line else f'+{key}=...'}"
    if not isinstance(section, DictConfig):
        first = key.partition(".")[0]
        close = "" if first in tree else meant(first, [*map(str, tree), *engines]) or _owned(first)
        return f"{key} is not a key: {parent} has no keys below it.{close}"
    known = [str(other) for other in section]
    if tree.runtime.knobs.get(key.partition(".")[0], {}).get("kind") == "json":
        put = shlex.quote(f"+{line or f'{key}=value'}")
        return (
            f"{key} is not a key that is known here.{meant(name, known)} {parent} has: {', '.join(known)}. Any other "
            f"key of the engine's JSON needs a + in front: {put}"
        )
    missing = "" if "tuner" in str(section.get("_target_")) else MISSING.get(parent, "")
    part, whole = ("hydra", parent) if parent.split(".")[0] == "hydra" else ("job", parent)
    there = listed(name, known, by=f"servetune --cfg {part} --package {whole}")
    return f"{key} is not a key.{meant(name, known)}{missing} {parent} has: {there}."


def is_choice(line: str) -> bool:
    """Whether an override chooses an option of a group, or says where options lie."""
    key = line.split("=", 1)[0]
    return key in groups() or key == "hydra.searchpath" or "/" in key


def groups() -> set[str]:
    """The names of the groups of options."""
    return {path.name for path in CONF.iterdir() if path.is_dir()}
