"""What can be known before deploying. Each check raises PreflightFailed with what to mend; nothing is left behind."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib import metadata

from pipeline import assets, memory, process, signals, verdict
from pipeline.backends import lease
from pipeline.bench import installed_program
from pipeline.errors import ConfigError, FailureKind, PipelineError, PreflightFailed
from pipeline.findings import Verdict
from pipeline.plan import Assets
from pipeline.schema import Config

MEMORY_RULES = {"does_not_fit", "kv_too_small"}  # of memory.check


def foresee(config: Config) -> Verdict:
    """What the engine will make of this combination: its rules, then the sum of its memory."""
    ruled = verdict.judge(config)
    return replace(ruled, findings=(*ruled.findings, *memory.check(config, ruled.knobs)))


def refuse(foreseen: Verdict) -> None:
    """Stop what cannot start.

    Raises:
        PreflightFailed: the trial is refused; the message says why.
    """
    reasons = foreseen.reasons("refused")
    if reasons:
        is_memory = {finding.rule for finding in foreseen.findings if finding.verdict == "refused"} <= MEMORY_RULES
        raise PreflightFailed(
            f"Refused: {'; '.join(reasons)}.",
            kind=FailureKind.DOES_NOT_FIT if is_memory else FailureKind.UNSUPPORTED_COMBINATION,
            hint="Leave the combination out; `dry_run=true` shows the verdict on every trial of a sweep.",
        )


def run(config: Config) -> None:
    """Every check.

    Raises:
        PreflightFailed: the first check that fails.
    """
    for _name, check in checks(config):
        check(config)


def fetch(config: Config) -> Assets:
    """The files that the trial needs, downloaded or made where they are not there yet.

    Raises:
        PreflightFailed: they cannot be had; a signal or the step's deadline ends a download.
    """
    try:
        return assets.prepare(config.model, watch=signals.check)
    except OSError as error:
        raise PreflightFailed(
            f"Cannot prepare the model in {assets.cache_dir()}: {error.strerror or error}.",
            hint="Free some space there, or set SERVETUNE_CACHE_DIR to another folder.",
        ) from error


Check = Callable[[Config], str]


def checks(config: Config) -> Iterator[tuple[str, Check]]:
    """The checks for this configuration: name, and a function that says what it found or raises."""
    yield "leases can be written", _state_dir
    yield "genai-bench", _genai_bench
    yield f"runtime {config.runtime.name}", _program
    for module in config.runtime.needs_modules:
        yield f"package {module}", _module(module)


def examine(config: Config) -> Iterator[tuple[str, bool, str]]:
    """For the doctor: (check, is it well, what was found or what to do) of every check, the model last."""
    for name, check in (*checks(config), (f"model {config.model.name}", _model)):
        try:
            yield name, True, check(config)
        except PipelineError as problem:
            yield name, False, f"{problem} {problem.hint}"


def _state_dir(_config: Config) -> str:
    where = lease.state_dir() / "leases"
    try:
        where.mkdir(parents=True, exist_ok=True)
        if not os.access(where, os.W_OK | os.X_OK):
            raise PermissionError(f"Permission denied: {where}")
    except OSError as error:
        raise PreflightFailed(
            f"Leases cannot be written to {where}: {error.strerror or error}. Without a lease nothing is deployed.",
            hint="Make it writable, or set SERVETUNE_STATE_DIR to another folder.",
        ) from error
    return str(where)


def _genai_bench(config: Config) -> str:
    program = config.bench.program or installed_program()
    if not os.access(program, os.X_OK):
        raise PreflightFailed(f"{program} is not a program.", hint="Run `make setup`, or set bench.program.")
    return str(program)


def _program(config: Config) -> str:
    program = config.runtime.command[0]
    if program == "{python}":
        return sys.executable
    found = shutil.which(program)
    if found is None:
        raise PreflightFailed(
            f"runtime={config.runtime.name} starts {program!r}, which is not on the PATH.",
            hint="Install it, or set runtime.command.",
        )
    return found


def _module(name: str) -> Check:
    def check(_config: Config) -> str:
        if importlib.util.find_spec(name) is None:
            raise PreflightFailed(
                f"The Python package {name} is not installed.",
                hint="Run `make setup`, or `uv sync --extra llamacpp`.",
            )
        if trouble := _import_trouble(name):
            hint = "Install it: apt install libgomp1" if "libgomp" in trouble else "Install what it names."
            raise PreflightFailed(f"The Python package {name} cannot be imported: {trouble}", hint=hint)
        return metadata.version(name)

    return check


@cache
def _import_trouble(name: str) -> str:
    """The last line of what `import name` says when it fails, tried in another process; empty when it works."""
    tried = process.output((sys.executable, "-c", f"import {name}"))
    return tried.rstrip().rpartition("\n")[2]


def _model(config: Config) -> str:
    try:
        return str(assets.prepare(config.model).model_path)
    except OSError as error:
        raise ConfigError(f"{assets.cache_dir()}: {error.strerror or error}") from error
