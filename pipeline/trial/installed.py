"""Checks the engine that is installed in `runtime.python`: whether it is there, its version, what it was built for."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from packaging.version import InvalidVersion, Version

from pipeline.core.errors import FailureKind, PreflightFailed
from pipeline.core.schema import Config
from pipeline.engines import purpose
from pipeline.engines.versions import is_same_release
from pipeline.machine import process

Check = Callable[[Config], str]
TORCHES = ("torch", "torchvision")
LAPTOP = "vLLM on a laptop"
# Asked of the engine's interpreter; importing an engine takes many seconds, its version is on the disk.
PROBE = """
import importlib.metadata, importlib.util, json, sys
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "" if importlib.util.find_spec(name) else None
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


def program(config: Config) -> str:
    """The engine's program.

    Raises:
        PreflightFailed: it is not on the PATH, or not executable.
    """
    runtime = config.runtime
    is_python = runtime.command[0] == "{python}"
    named = _python(config) if is_python else runtime.command[0]
    found = shutil.which(named)
    key = f"runtime.{'python' if is_python else 'command'}"
    if found is None and Path(named).is_file():
        said = f"runtime={runtime.name} starts {named!r}, which this user may not execute."
        raise PreflightFailed(said, hint=f"chmod +x {named}, or set {key}.")
    if found is None:
        said = f"runtime={runtime.name} starts {named!r}, which is not found on the PATH."
        raise PreflightFailed(said, hint=f"Install it, or set {key}.")
    return found


def package(name: str) -> Check:
    """A check that the engine's interpreter has the package, in the right version, built for the hardware."""

    def check(config: Config) -> str:
        python = _python(config)
        wanted = config.runtime.version if name == config.runtime.needs_modules[0] else None
        more = (config.runtime.on_cpu.package, *TORCHES) if config.runtime.on_cpu.package else ()
        asked = (*config.runtime.needs_modules, *more)
        versions = _versions(python, asked, tuple(purpose.environment(config).items()))
        version = versions.get(name)
        if version is None:
            raise PreflightFailed(f"The Python package {name} is not installed in {python}.", hint=_install(config))
        if not version and (other := versions.get(config.runtime.on_cpu.package or "")):
            raise _nameless(name, other, config)
        if wanted and version:
            _insist_on_one_torch(versions, config)
            _insist_on_release(name, version, config)
            _insist_on_build(name, version, config)
        if not config.runtime.version and (trouble := _import_trouble(python, name)):
            hint = "Install it: apt install libgomp1" if "libgomp" in trouble else "Install what the message names."
            raise PreflightFailed(f"The Python package {name} cannot be imported: {trouble}", hint=hint)
        return version or "installed"

    return check


def _insist_on_release(name: str, version: str, config: Config) -> None:
    python, wanted = _python(config), str(config.runtime.version)
    if not is_same_release(version, wanted):
        public = _public(version)
        raise PreflightFailed(
            f"{name} {version} is installed in {python}, but runtime.version={wanted}.",
            hint=f"Set runtime.version={public}; if it has no flag catalogue yet, create one: "
            f"python -m pipeline.catalogues {name}=={public}",
        )


def _insist_on_one_torch(versions: Mapping[str, str | None], config: Config) -> None:
    """Torchvision from PyPI cannot be loaded beside torch's CPU build: `operator torchvision::nms does not exist`."""
    torch, beside = (versions.get(name) or "" for name in TORCHES)
    if torch.endswith("+cpu") and beside and "+" not in beside and platform.machine() == "x86_64":
        raise PreflightFailed(
            f"torchvision {beside} in {_python(config)} is built for another PyTorch than the torch {torch} beside it.",
            kind=FailureKind.LOAD_FAILED,
            hint=f"Text models need none of them: uv pip uninstall --python {_python(config)} torchvision torchaudio "
            "torchcodec triton. Or install PyTorch's own builds for the CPU (uv: --torch-backend cpu).",
        )


def _insist_on_build(name: str, version: str, config: Config) -> None:
    """VLLM computes on the CPU if its version says so, and on nothing else then (0.32.0 platforms/__init__.py:18)."""
    build = config.runtime.on_cpu.build
    if build is None or sys.platform != "linux" or config.hardware.is_cpu == (build in version):
        return
    here = f"{name} {version} is installed in {_python(config)}"
    if config.hardware.is_cpu:
        raise PreflightFailed(
            f"{here}. It is not built for the CPU, and hardware={config.hardware.name} has no GPU.",
            kind=FailureKind.NO_GPU,
            hint=_install(config),
        )
    raise PreflightFailed(
        f"{here}. It is built for the CPU and would not use the GPUs of hardware={config.hardware.name}.",
        kind=FailureKind.NO_GPU,
        hint=f"Set hardware=cpu, or runtime.python to an installation of {name} for GPUs.",
    )


def _nameless(name: str, version: str, config: Config) -> PreflightFailed:
    """`vllm serve` asks for the version of the distribution `vllm` (0.32.0 entrypoints/cli/main.py:99)."""
    given = config.runtime.on_cpu
    lines = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}+{given.build}\\n"
    mend = (
        f"import pathlib, sysconfig; folder = pathlib.Path(sysconfig.get_path('purelib'), "
        f"'{name}-{version}+{given.build}.dist-info'); folder.mkdir(); (folder / 'METADATA').write_text('{lines}')"
    )
    return PreflightFailed(
        f"{given.package} {version} in {_python(config)} lacks the metadata of {name}, which the engine asks for when "
        "it starts: PackageNotFoundError. The package was made so.",
        kind=FailureKind.LOAD_FAILED,
        hint=f'Add it: {_python(config)} -c "{mend}"',
    )


def _python(config: Config) -> str:
    return str(config.runtime.python or sys.executable)


def _install(config: Config) -> str:
    runtime, on_cpu = config.runtime, config.runtime.on_cpu
    if runtime.version is None:
        return "Install it: pip install 'servetune[llamacpp]'; in a checkout, make setup."
    wanted, more = " ".join([f"{runtime.name}=={runtime.version}", *runtime.needs_modules[1:]]), ""
    if config.hardware.is_cpu and on_cpu.package:
        # Somebody else builds it, later: <= takes the newest that there is, and the next check names its version
        wanted, more = f"--torch-backend cpu '{on_cpu.package}<={runtime.version}'", f"; docs: {LAPTOP}"
    return (
        f"Install it in its own virtual environment (uv venv ENGINE; uv pip install --python ENGINE/bin/python "
        f"{wanted}) and set runtime.python=ENGINE/bin/python{more}."
    )


def _public(version: str) -> str:
    try:
        return Version(version).public
    except InvalidVersion:
        return version


@cache
def _versions(python: str, names: tuple[str, ...], env: tuple[tuple[str, str], ...]) -> Mapping[str, str | None]:
    try:
        asked = process.ask((python, "-c", PROBE, *names), env={**os.environ, **dict(env)})
    except OSError as error:
        raise PreflightFailed(
            f"{python} cannot be started: {error.strerror or error}.",
            hint="Set runtime.python to the interpreter of the engine's virtual environment.",
        ) from error
    if asked.returncode:
        return {}
    try:
        told: dict[str, str | None] = json.loads(asked.stdout)
    except ValueError as error:
        raise PreflightFailed(
            f"{python} is no Python interpreter: it says nothing of the packages that it has.",
            hint="Set runtime.python to the interpreter of the engine's virtual environment.",
        ) from error
    return told


@cache
def _import_trouble(python: str, name: str) -> str:
    """The last line of what `import name` says when it fails, tried in another process; empty when it works."""
    tried = process.ask((python, "-c", f"import {name}"), env=os.environ)
    words = tried.stderr.rstrip().rpartition("\n")[2] or f"exit code {tried.returncode}"
    return words if tried.returncode else ""
