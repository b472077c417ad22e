"""Checks before deploying: the verdict on the combination, and whether this machine can run it."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.config import trial_limit
from pipeline.core.errors import FailureKind, NotAsked, PipelineError, PreflightFailed
from pipeline.core.findings import Verdict
from pipeline.core.metric_names import ENERGY
from pipeline.core.places import cache_dir
from pipeline.core.plan import Assets
from pipeline.core.schema import Config
from pipeline.engines import verdict
from pipeline.machine import signals, slots
from pipeline.models import assets, memory, ome_model, served
from pipeline.prompts import findings
from pipeline.trial import already_there, checks, hardware, hardware_watch
from pipeline.trial.checks import Check

HARDWARE = "hardware"


@dataclass(frozen=True)
class Found:
    """What came of a check. `told`: what was found or what to do; `error`: what is wrong, once for each cause."""

    name: str
    told: str
    error: PipelineError | None = None
    is_asked: bool = True  # False: what it asks for is wrong already; `told` names where


def foresee(config: Config) -> Verdict:
    """What the engine will do with this combination, by its rules and the memory check; whether there is time."""
    if config.backend.is_endpoint:
        told = (*served.findings(config), *trial_limit.too_short(config), *findings.of(config))
        return Verdict(findings=told, knobs=dict(config.knobs))
    ruled = verdict.judge(config)
    beside = (*memory.check(config, ruled.knobs), *trial_limit.too_short(config), *findings.of(config))
    return replace(ruled, findings=(*ruled.findings, *beside))


def refuse(foreseen: Verdict) -> None:
    """Refuse a trial that cannot start.

    Raises:
        PreflightFailed: the trial is refused; the message says why.
    """
    reasons = foreseen.reasons("refused")
    if reasons:
        is_memory = {finding.rule for finding in foreseen.findings if finding.verdict == "refused"} <= memory.RULES
        raise PreflightFailed(
            f"Refused: {'; '.join(reasons)}.",
            kind=FailureKind.DOES_NOT_FIT if is_memory else FailureKind.UNSUPPORTED_COMBINATION,
            hint="Leave the combination out (dry_run=true shows the verdict on every trial of a sweep). If you know "
            f"that it works, set {'runtime.memory=null' if is_memory else 'runtime.rules=[]'} to skip this check.",
        )


def run(config: Config) -> None:
    """Every check.

    Raises:
        PreflightFailed: the first check that fails.
    """
    for _name, check in checks.of(config):
        check(config)
    checks.model(config)


def fetch(config: Config) -> Assets:
    """The files that the trial needs, downloaded or made where they are not there yet.

    Raises:
        PreflightFailed: they cannot be had; a signal or the step's deadline ends a download.
    """
    try:
        if config.bench.location == "cluster":
            inside = ome_model.inside(config)
            return Assets(model_path=inside, tokenizer_dir=Path(config.bench.cluster.tokenizer or inside))
        if config.backend.is_endpoint:
            return already_there.fetch(config)
        if config.backend.kubernetes:  # the cluster has the model, or gets it by itself
            tokenizer = assets.prepare_tokenizer(config.model, watch=signals.check)
            return Assets(model_path=ome_model.inside(config), tokenizer_dir=tokenizer)
        return assets.prepare(config.model, watch=signals.check)
    except OSError as error:
        raise PreflightFailed(
            f"Cannot prepare the model in {cache_dir()}: {error.strerror or error}.",
            hint="Free some disk space there, or set SERVETUNE_CACHE_DIR to another folder.",
        ) from error


def examine(asked: Config) -> Iterator[Found]:
    """Every check for the doctor, the combination last. What follows from an earlier failure is not asked."""
    energy = () if any(name in ENERGY for name in asked.objective) else (("energy", hardware_watch.outlook),)
    yield from _examined(asked, slots.survey, *energy, ("model", _model), ("combination", _combination))


def wrong(asked: Config) -> Iterator[PipelineError]:
    """What keeps the trial from running here, whatever its combination: each cause once. Nothing is written."""
    found = _examined(asked, slots.insist, ("model", checks.model))
    return (one.error for one in found if one.error)


def _examined(asked: Config, survey: Check, *last: tuple[str, Check]) -> Iterator[Found]:
    config, failed = asked, dict[str, str]()  # what was said, and by which check first
    behind: list[str] = []  # checks that fail of the same as an earlier one
    try:
        config = hardware.resolved(asked)
    except PipelineError as error:
        failed[str(error)] = HARDWARE
        yield _failed(HARDWARE, error)
    for name, check in (*checks.of(config, survey=survey), *last):
        if before := checks.reason_not_to_ask(name, [*failed.values(), *behind]):
            yield Found(name=name, told=f"see {before}", is_asked=False)
            continue
        try:
            yield Found(name=_name(name, config), told=_answer(name, check, config))
        except NotAsked as error:
            yield Found(name=name, told=str(error), is_asked=False)
        except PipelineError as error:
            if same := failed.get(str(error)):
                behind.append(name)
                yield Found(name=name, told=f"see {same}", is_asked=False)
                continue
            failed[str(error)] = name
            yield _failed(_name(name, config), error)


def _answer(name: str, check: Check, config: Config) -> str:
    """What a check says. A program that cannot be started, or hangs, is a finding too."""
    try:
        return check(config)
    except (OSError, subprocess.SubprocessError) as error:
        raise PreflightFailed(f"The check `{name}` could not be made: {error}.") from error


def _failed(name: str, error: PipelineError) -> Found:
    return Found(name=name, told=f"{error} {error.hint}", error=error)


def _name(name: str, config: Config) -> str:
    return f"model {config.model.name}" if name == "model" else name


def _model(config: Config) -> str:
    """The model that is here is looked into as well."""
    found = checks.model(config)
    if config.backend.is_endpoint:
        return found
    return found if assets.has_to_come(config.model) else str(fetch(config).model_path)


def _combination(config: Config) -> str:
    foreseen = foresee(config)
    refuse(foreseen)
    return "; ".join([foreseen.word, *(f"{finding.verdict}: {finding.reason}" for finding in foreseen.findings)])
