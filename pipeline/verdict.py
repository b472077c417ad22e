"""What an engine will make of a combination of knobs, known before it costs GPU time. Pure but for reading rules.

The rules are data: pipeline/rules/<name>.yaml, each with its reason and the source it was read from. `when` is a Jinja
expression over the facts of the trial:

- each knob by its name: what was asked, as rewritten by the rules before, else the engine's own default, else none
- `asked`: the knobs as asked (none: not asked); `model`: its architecture; `hardware`; `sm`: 90 for compute
  capability 9.0; `gpus`: GPUs that the trial takes; `concurrency`: the busiest level; `longest_tokens`: the longest
  request, prompt and answer
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, ValidationError

from pipeline import catalogue, scenario
from pipeline.errors import ConfigError
from pipeline.findings import Finding, Verdict
from pipeline.schema import Config, Knob, Scalar, is_of
from pipeline.values import parse, value

_jinja = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


@value
class Rule:
    """What an engine does with a combination. `default`: what it takes for a knob that was not asked."""

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
    facts = _facts(config)
    knobs = dict(config.knobs)
    findings = []
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
    return Verdict(findings=tuple(findings), knobs=knobs)


def _facts(config: Config) -> dict[str, Any]:
    hardware, capability = config.hardware, config.hardware.compute_capability
    lengths = [scenario.longest(line) for line in config.traffic.scenarios]
    return {
        **{name: _effective(config, name, knob) for name, knob in config.runtime.knobs.items()},
        "asked": dict(config.knobs),
        "model": config.model.arch,
        "hardware": hardware,
        "sm": None if capability is None else round(capability * 10),
        "gpus": config.gpus,
        "concurrency": max(config.traffic.concurrencies),
        "longest_tokens": max(tokens.input + tokens.output for tokens in lengths),
    }


def _effective(config: Config, name: str, knob: Knob) -> Scalar | None:
    """What was asked, else the default in the engine's parser, else None: the engine decides later."""
    asked = config.knobs.get(name)
    runtime = config.runtime
    if asked is not None or runtime.version not in catalogue.versions(runtime.name):
        return asked
    flag = catalogue.load(runtime.name, str(runtime.version)).find(knob.spelled(runtime.version))
    return flag.default if flag else None


def _applies(rule: Rule, facts: Mapping[str, Any]) -> bool:
    if any(facts[name] is None for name in rule.given):
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


def load(name: str) -> tuple[Rule, ...]:
    """The rules of a file in pipeline/rules/, or of a YAML file of the user's own.

    Raises:
        ConfigError: there is no such file, or it does not hold rules.
    """
    folder = resources.files("pipeline") / "rules"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    try:
        return parse(tuple[Rule, ...], yaml.safe_load(path.read_text()) or [])
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"runtime.rules: {path} cannot be used: {error}") from error
