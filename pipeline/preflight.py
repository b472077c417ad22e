"""What can be known before deploying. Each check raises PreflightFailed with what to mend; nothing is left behind."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata

from pipeline import assets, process
from pipeline.backends import lease
from pipeline.bench import installed_program
from pipeline.errors import ConfigError, PipelineError, PreflightFailed
from pipeline.plan import Assets
from pipeline.schema import Config


def run(config: Config) -> Assets:
    """Every check; the files that the trial needs.

    Raises:
        PreflightFailed: the first check that fails.
    """
    for _name, check in checks(config):
        check(config)
    try:
        return assets.prepare(config.model)
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
