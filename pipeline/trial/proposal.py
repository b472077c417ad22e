"""What to search for an engine, a model, hardware and traffic: knobs that can matter, values that can start. Pure.

A tier's conditions are written as the rules of engines are (pipeline/engines/verdict.py), over what those rules know of
the trial with nothing asked, and beside it:

- `cores`: CPU cores for a trial; `prompt_tokens`, `answer_tokens`: of the largest scenario, on average
- `fits`: GPUs of tensor parallelism that hold the model; `node`: GPUs of the machine, at least 1
- `kv_share`: what the busiest level asks of the KV cache, by what there is; none where the memory is not known
- `moe`, `mla`: whether the model has experts, or MLA attention
"""

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import Field

from pipeline.config import nested
from pipeline.config.knobs import check_setting
from pipeline.config.tiers import Entry, Tier
from pipeline.core import traffic_size
from pipeline.core.errors import ConfigError
from pipeline.core.findings import Verdict
from pipeline.core.schema import Config
from pipeline.core.values import Scalar, value
from pipeline.engines import verdict
from pipeline.models import memory
from pipeline.trial import preflight

# Warnings that say how well a value does, which is what the search finds out, or what is not known; others say that it
# may not start
MILD = frozenset(
    {"tight", "requests_wait", "graphs_too_small", "batches_without_graph", "trial_limit", "draft_unknown"}
)


@value
class Dimension:
    """A knob and what is tried beside the engine's own choice."""

    knob: str
    values: tuple[Any, ...]  # scalars, or keys and values of a flag's JSON
    why: str
    source: str


@value
class Proposal:
    """The space for one engine."""

    tier: Tier
    dimensions: tuple[Dimension, ...]
    fixed: Mapping[str, int] = Field(default_factory=dict)  # without which the model does not fit
    left_out: Mapping[str, str]  # knob, or knob=value: why

    @property
    def size(self) -> int:
        """Combinations."""
        return math.prod(1 + len(one.values) for one in self.dimensions)


@dataclass(frozen=True)
class _Gpus:
    """How many GPUs every trial has."""

    fixed: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)  # as the proposal's
    too_few: Mapping[str, int] = field(default_factory=dict)  # as many as there are, which do not hold the weights


def made(config: Config, tier: Tier, taken: Collection[str]) -> Proposal:
    """The space of a tier. `config`: with what is fixed for all trials; `taken`: knobs that the command sets.

    Raises:
        ConfigError: an expression of the tier is not written as it must be.
    """
    gpus = _Gpus() if set(config.runtime.gpu_knobs) & set(taken) else _least_gpus(config)
    fixed = gpus.fixed
    base = replace(config, knobs={**config.knobs, **fixed})
    look = _Look(base, taken, _facts(base))
    look.left_out |= gpus.left_out
    for knob, entry in tier.knobs.items():
        if entry is not None and knob in fixed:
            look.beyond(knob, entry, fixed[knob])
        elif entry is not None:
            look.at(knob, entry)
    if gpus.too_few and not _helps(replace(base, knobs={**base.knobs, **gpus.too_few}), look.found.values()):
        return Proposal(tier=tier, dimensions=(), left_out=gpus.left_out)
    return Proposal(tier=tier, dimensions=tuple(look.found.values()), fixed=fixed, left_out=look.left_out)


class _Look:
    """Goes through the knobs of a tier, the one after the other: a knob may mean something under an earlier one."""

    def __init__(self, base: Config, taken: Collection[str], known: Mapping[str, Any]) -> None:
        self.base, self.taken, self.known = base, taken, known
        self.found: dict[str, Dimension] = {}
        self.left_out: dict[str, str] = {}

    def at(self, knob: str, entry: Entry) -> None:
        """Take the knob up, or note why not."""
        if why := self._not_here(knob, entry):
            self.left_out[knob] = why
        elif values := tuple(self._startable(knob, entry)):
            self.found[knob] = Dimension(knob=knob, values=values, why=entry.why, source=entry.source)

    def beyond(self, knob: str, entry: Entry, size: int) -> None:
        """Say why larger sizes of a knob that is fixed are no values, where the tier would have them."""
        for pick in _values(entry, self.known) if verdict.holds(entry.when, self.known) else ():
            why = f"all trials have {knob}={size}, the least that holds the model; compare more in a sweep of {knob}"
            self.left_out[f"{knob}={pick}"] = why

    def _not_here(self, knob: str, entry: Entry) -> str | None:
        """Why a knob is no dimension, whatever its values."""
        if knob not in self.base.runtime.knobs:
            return "no knob of this runtime"
        if any(f"{knob}.".startswith(f"{name}.") or f"{name}.".startswith(f"{knob}.") for name in self.taken):
            return "set by the command"
        if not verdict.holds(entry.when, self.known):
            return entry.only or f"only where {entry.when}"
        if self._parents(entry) is None:
            names = ", ".join(f"{name}={'|'.join(map(str, picks))}" for name, picks in entry.under.items())
            return f"only with {names}"
        return None

    def _parents(self, entry: Entry) -> dict[str, Any] | None:
        """The settings under which a knob means something; None: the space has none of them."""
        made: dict[str, Any] = {}
        for name, picks in entry.under.items():
            there = [*(self.found[name].values if name in self.found else ()), self.base.knobs.get(name)]
            pick = next((pick for pick in picks if pick in there), None)
            if pick is None:
                return None
            made[name] = pick
        return made

    def _startable(self, knob: str, entry: Entry) -> Iterator[Any]:
        """The values that can start, and that differ from what the engine does by itself."""
        under = with_knobs(self.base, self._parents(entry) or {})
        before, usual = preflight.foresee(under), _effective(under)
        for pick in _values(entry, self.known):
            try:
                tried = with_knobs(under, {knob: pick})
            except ConfigError as error:
                self.left_out[f"{knob}={pick}"] = str(error).partition(": ")[2].rstrip(".")
                continue
            if why := _trouble(before, preflight.foresee(tried), entry):
                self.left_out[f"{knob}={pick}"] = why
            elif _effective(tried) == usual:
                self.left_out[f"{knob}={pick}"] = "what the engine does by itself"
            else:
                yield pick


def _values(entry: Entry, known: Mapping[str, Any]) -> list[Any]:
    given = verdict.calculated(entry.values, known) if isinstance(entry.values, str) else entry.values
    unique: list[Any] = []
    for pick in given:
        if pick is not None and pick not in unique:
            unique.append(pick)
    return unique


def with_knobs(config: Config, picks: Mapping[str, Any]) -> Config:
    """The same with these knobs.

    Raises:
        ConfigError: the version does not have the knob, or does not take the value.
    """
    settings: dict[str, Scalar | None] = {}
    for knob, pick in picks.items():
        settings |= nested.settings(knob, pick, config.runtime)
    for knob, setting in settings.items():
        check_setting(knob, config.runtime, setting)
    return replace(config, knobs={**config.knobs, **settings})


def _trouble(before: Verdict, after: Verdict, entry: Entry) -> str | None:
    """What speaks against a value that did not speak against the trial without it."""
    known = {finding.rule for finding in before.findings} | MILD | set(entry.despite)
    new = [finding for finding in after.findings if finding.rule not in known and finding.verdict != "rewritten"]
    worst = sorted(new, key=lambda finding: finding.verdict != "refused")
    return worst[0].reason if worst else None


def _effective(config: Config) -> dict[str, Any]:
    """What the engine makes of all knobs, as far as its rules know."""
    known = verdict.facts(config)
    return {knob: known.get(knob) for knob in config.runtime.knobs} | {"nested": known["nested"], "env": known["env"]}


def _least_gpus(config: Config) -> _Gpus:
    """The smallest tensor parallelism that can start, where one GPU is not enough, and why no smaller one does."""
    if not config.runtime.gpu_knobs or config.hardware.is_cpu or not config.hardware.gpu_count:
        return _Gpus()
    knob = config.runtime.gpu_knobs[0]
    seen = {size: preflight.foresee(with_knobs(config, {knob: size})) for size in _powers(config.hardware.gpu_count)}
    if all("does_not_fit" in _refused(each) for each in seen.values()):
        most = max(seen)
        return _Gpus(left_out={f"{knob}={most}": _refused(seen[most])["does_not_fit"]}, too_few={knob: most})
    able = [size for size, each in seen.items() if not _refused(each)]
    sure = [size for size in able if _has_room(with_knobs(config, {knob: size}))]
    size = next(iter((*sure, *able)), 1)
    if size == 1:
        return _Gpus()
    smaller = {f"{knob}={each}": _why_not(seen[each]) for each in seen if each < size}
    told = f"{size} for all trials: fewer GPUs do not hold the model"
    return _Gpus(fixed={knob: size}, left_out={knob: told, **smaller})


def _helps(base: Config, dimensions: Iterable[Dimension]) -> bool:
    """Whether some value lets a trial start that cannot start without it."""
    tried = (with_knobs(base, {one.knob: pick}) for one in dimensions for pick in one.values)
    return any(not _refused(preflight.foresee(each)) for each in tried)


def _refused(foreseen: Verdict) -> dict[str, str]:
    """The rules that refuse a trial, with their reasons."""
    return {finding.rule: finding.reason for finding in foreseen.findings if finding.verdict == "refused"}


def _why_not(foreseen: Verdict) -> str:
    """Why a number of GPUs is too small: what refuses it, else what warns of the memory."""
    tight = (finding.reason for finding in foreseen.findings if finding.rule == "tight")
    return next(iter((*_refused(foreseen).values(), *tight)), "the engine may not start")


def _has_room(config: Config) -> bool:
    """Whether weights and what the engine sets aside fit for sure; also where nobody can tell."""
    need = memory.need(config, config.knobs)
    return need is None or need.loaded_gib + need.reserve_gib < need.gpu_gib


def _powers(most: int) -> list[int]:
    return [2**n for n in range(most.bit_length()) if 2**n <= most]


def _facts(config: Config) -> dict[str, Any]:
    traffic, arch = config.traffic, config.model.arch
    tokens = [traffic_size.mean(traffic, line) for line in traffic.scenarios]
    need = memory.need(config, config.knobs)
    room = max(need.most_gib - need.loaded_gib, 0.01) if need else None
    return {
        **verdict.facts(config),
        "cores": config.hardware.cores_per_trial or len(os.sched_getaffinity(0)),
        "prompt_tokens": max(each.input for each in tokens),
        "answer_tokens": max(each.output for each in tokens),
        "fits": config.parallelism,
        "node": max(1, config.hardware.gpu_count),
        "powers": _powers(max(1, config.hardware.gpu_count)),
        "kv_share": need.kv_gib / room if need and room else None,
        "moe": bool(arch and arch.experts),
        "mla": bool(arch and arch.attention == "mla"),
    }
