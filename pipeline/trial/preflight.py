"""Checks before deploying: the verdict on the combination, and whether this machine can run it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.core.errors import FailureKind, PipelineError, PreflightFailed
from pipeline.core.findings import Verdict
from pipeline.core.places import cache_dir
from pipeline.core.plan import Assets
from pipeline.core.schema import Config
from pipeline.engines import verdict
from pipeline.machine import signals
from pipeline.models import assets, memory, ome_model
from pipeline.trial import checks


def foresee(config: Config) -> Verdict:
    """What the engine will do with this combination: by its rules, then by the memory check."""
    ruled = verdict.judge(config)
    return replace(ruled, findings=(*ruled.findings, *memory.check(config, ruled.knobs)))


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
        if config.backend.kubernetes:  # the cluster has the model, or gets it by itself
            tokenizer = assets.prepare_tokenizer(config.model, watch=signals.check)
            return Assets(model_path=ome_model.inside(config), tokenizer_dir=tokenizer)
        return assets.prepare(config.model, watch=signals.check)
    except OSError as error:
        raise PreflightFailed(
            f"Cannot prepare the model in {cache_dir()}: {error.strerror or error}.",
            hint="Free some disk space there, or set SERVETUNE_CACHE_DIR to another folder.",
        ) from error


def examine(config: Config) -> Iterator[tuple[str, bool, str]]:
    """Every check for the doctor, the combination last: (name, whether it passed, what was found or what to do)."""
    last = ((f"model {config.model.name}", _model), ("combination", _combination))
    for name, check in (*checks.of(config), *last):
        try:
            yield name, True, check(config)
        except PipelineError as problem:
            yield name, False, f"{problem} {problem.hint}"


def _model(config: Config) -> str:
    """The model that is here is looked into as well."""
    found = checks.model(config)
    return found if assets.has_to_come(config.model) else str(fetch(config).model_path)


def _combination(config: Config) -> str:
    foreseen = foresee(config)
    refuse(foreseen)
    return "; ".join([foreseen.word, *(f"{finding.verdict}: {finding.reason}" for finding in foreseen.findings)])
