"""Predicts what an engine does with a combination of knobs, before it costs GPU time. Pure, except for reading rules.

The rules are data: engines/rules/<name>.yaml, each with its reason and the source it was read from. `when` is a Jinja
expression over the facts of the trial:

- each knob by its name: the asked value as rewritten by earlier rules, else the engine's own default, else none
- `asked`: the knobs as asked (none: not asked); `model`: its architecture; `context`: the tokens that it was made for;
  `hardware`; `sm`: 90 for compute capability 9.0; `gpus`: GPUs that the trial takes; `concurrency`: the busiest level;
  `longest_tokens`: the longest request, prompt and answer; `least_tokens`: the usual request of the shortest scenario;
  `shared_prefix`: the share of a prompt with which others begin, too; `ignore_eos`: whether answers go on past the
  stop token: not with prompts of a file, nor with runtime.api_backend=openai;
  `words`: the command, what is for measuring, runtime.extra_args; `env`: the engine's environment variables
- `nested`: by each knob of JSON, the keys and values that its flag gets, of its text and of its keys; none: nothing
- `extra`: what runtime.extra_args sets, by the engine's own names; it also sets the knob that has the same flag.
  `twice`: knobs that are set both ways; `unknown`: flags that this version does not have; `ambiguous`: abbreviations
  of several flags
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, ValidationError

from pipeline.core import traffic_size
from pipeline.core.errors import ConfigError
from pipeline.core.findings import Finding, Verdict
from pipeline.core.places import PACKAGE
from pipeline.core.schema import Config, Knob, Runtime, is_of
from pipeline.core.values import Scalar, parse, value
from pipeline.engines import catalogue, knob_json, purpose, versions
from pipeline.engines.catalogue import Catalogue, Reading

IGNORING = ("vllm", "sglang")  # genai-bench 0.0.5, user/openai_user.py:110-115: it sends ignore_eos to these

_jinja = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


@value
class Rule:
    """What an engine does with a combination. `default`: the value it uses for a knob that was not asked."""

    id: str
    verdict: Literal["refused", "rewritten", "warned", "default"]
    versions: str = ""  # of the engine, as PEP 440 writes them; empty: all
    given: tuple[str, ...] = ()  # facts that must be known (not none), or the rule is passed over
    when: str  # a Jinja expression
    becomes: Mapping[str, Scalar] = Field(default_factory=dict)  # "= tp_size" is an expression
    reason: str  # a Jinja template over the same facts
    source: str


def judge(config: Config) -> Verdict:
    """Every rule of the runtime, in order; later ones see what earlier ones rewrote.

    Raises:
        jinja2.TemplateError: a rule is not written as it must be.
    """
    return _ruled(config)[0]


def facts(config: Config) -> Mapping[str, Any]:
    """What the rules know of a trial once all of them have looked at it: defaults filled in, knobs rewritten."""
    return _ruled(config)[1]


def holds(condition: str, known: Mapping[str, Any]) -> bool:
    """Whether a condition, written as a rule's `when`, is true of these facts."""
    return bool(calculated(f"= {condition}", known))


def calculated(text: str, known: Mapping[str, Any]) -> Any:
    """The value of an expression that begins with `= `, over these facts.

    Raises:
        ConfigError: it is not written as it must be.
    """
    try:
        return _expression(text.removeprefix("= "))(**known)
    except TemplateError as error:
        raise ConfigError(f"{text}: {error}") from error


def _ruled(config: Config) -> tuple[Verdict, dict[str, Any]]:
    facts = _facts(config)
    knobs = dict(config.knobs)
    findings = list(_of_version(config.runtime))
    for rule in _rules(config.runtime.rules):
        if not is_of(rule.versions, config.runtime.version) or not _applies(rule, facts):
            continue
        became = {name: _value(item, facts) for name, item in rule.becomes.items()}
        changed = {name: item for name, item in became.items() if facts.get(name) != item}
        told = rule.verdict in {"refused", "warned"} or any(knobs.get(name) is not None for name in changed)
        if rule.verdict != "default" and told:
            findings.append(_finding(rule, facts))
        if rule.verdict == "rewritten":
            knobs |= changed
        facts |= changed
    return Verdict(findings=tuple(findings), knobs=knobs), facts


def _of_version(runtime: Runtime) -> Iterator[Finding]:
    if why := versions.unknown(runtime.name, runtime.version):
        reason = f"runtime.version={runtime.version}: {why}. So flags are not checked, and knobs cannot be set"
        yield Finding(rule="version_unknown", verdict="warned", reason=reason, source="pipeline/engines/catalogues")


def _facts(config: Config) -> dict[str, Any]:
    hardware, capability = config.hardware, config.hardware.compute_capability
    flags = _flags(config)
    extra = flags.read(config.runtime.extra_args) if flags else Reading(settings={})
    knobs = {name: _effective(config, name, knob, flags) for name, knob in config.runtime.knobs.items()}
    nested = knob_json.merged(config)
    set_here = {name: extra.settings[dest] for name, dest in _dests(config, flags) if dest in extra.settings}
    return {
        **knobs,
        **{name: json.dumps(made) for name, made in nested.items() if made},
        **set_here,
        "nested": nested,
        "twice": [name for name in set_here if config.knobs.get(name) is not None],
        "unknown": list(extra.unknown),
        "ambiguous": list(extra.ambiguous),
        "extra": dict(extra.settings),
        "env": purpose.environment(config),
        "asked": dict(config.knobs),
        "model": config.model.arch,
        "context": config.model.longest_context,
        "words": [*config.runtime.command, *purpose.extras(config).args, *config.runtime.extra_args],
        "hardware": hardware,
        "sm": None if capability is None else round(capability * 10),
        "gpus": config.gpus,
        "concurrency": config.traffic.most_open,
        "longest_tokens": traffic_size.longest(config.traffic),
        "ignore_eos": config.runtime.api_backend in IGNORING and config.traffic.goes_past_stop,
        "shared_prefix": traffic_size.shared(config.traffic),
        "least_tokens": traffic_size.least(config.traffic),
    }


def _flags(config: Config) -> Catalogue | None:
    runtime = config.runtime
    is_known = runtime.version in catalogue.versions(runtime.name)
    return catalogue.load(runtime.name, str(runtime.version)) if is_known else None


def _effective(config: Config, name: str, knob: Knob, flags: Catalogue | None) -> Scalar | None:
    """What was asked, else the default in the engine's parser, else None: the engine decides later."""
    asked = config.knobs.get(name)
    if asked is not None or flags is None or not knob.has_flag:
        return asked
    flag = flags.find(knob.spelled(config.runtime.version))
    return flag.default if flag else None


def _dests(config: Config, flags: Catalogue | None) -> Iterator[tuple[str, str]]:
    """Each knob and what the engine's parser calls its flag."""
    for name, knob in config.runtime.knobs.items():
        flag = flags.find(knob.spelled(config.runtime.version)) if flags and knob.has_flag else None
        if flag:
            yield name, flag.dest


def _applies(rule: Rule, facts: Mapping[str, Any]) -> bool:
    if any(facts.get(name) is None for name in rule.given):
        return False
    return bool(_expression(rule.when)(**facts))


def _value(item: Scalar, facts: Mapping[str, Any]) -> Scalar:
    if isinstance(item, str) and item.startswith("= "):
        item = _expression(item[2:])(**facts)
    return item


def _finding(rule: Rule, facts: Mapping[str, Any]) -> Finding:
    reason = _jinja.from_string(rule.reason).render(**facts)
    return Finding(rule=rule.id, verdict=rule.verdict, reason=reason, source=rule.source)  # type: ignore[arg-type]


@cache
def _expression(text: str) -> Any:
    return _jinja.compile_expression(text, undefined_to_none=False)


@cache
def _rules(names: tuple[str, ...]) -> tuple[Rule, ...]:
    return tuple(rule for name in names for rule in load(name))


def path_of(name: str) -> Path:
    """The file of rules in pipeline/engines/rules/, or a YAML file of the user's own.

    Raises:
        ConfigError: there is no such file.
    """
    folder = PACKAGE / "engines" / "rules"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in folder.glob("*.yaml")))
        raise ConfigError(f"runtime.rules: there are no rules {name}. Expected {known}, or a path ending in .yaml.")
    return path


def load(name: str) -> tuple[Rule, ...]:
    """The rules of a file.

    Raises:
        ConfigError: there is no such file, or it does not hold rules.
    """
    path = path_of(name)
    try:
        return parse(tuple[Rule, ...], yaml.safe_load(path.read_text("utf-8")) or [])
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"runtime.rules: {path} cannot be used: {error}") from error
