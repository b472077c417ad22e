"""`python -m pipeline.doctor [overrides]`: can this configuration run here? Deploys nothing."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

from hydra import initialize_config_dir
from rich.console import Console
from rich.table import Table

from pipeline.config.command_line import composed, to_config
from pipeline.config.knobs import allowed
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.places import CONF
from pipeline.core.schema import Config, Knob, is_of
from pipeline.engines import catalogue, versions
from pipeline.machine import entry
from pipeline.trial import hardware, preflight

PIPE_WIDTH = 160


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.doctor") -> int:
    """The command. 0: every check passed; 1: one did not; 2: the configuration cannot be used."""
    options = _options(argv, prog)
    overrides = [f"runtime={options.knobs}"] if options.knobs else []
    action = _examine if options.knobs is None else _show_knobs
    return _with_config([*overrides, *options.overrides], action)


def knobs(argv: Sequence[str] | None = None, prog: str = "servetune knobs") -> int:
    """`servetune knobs [RUNTIME]`. 0: listed; 2: the configuration cannot be used."""
    words = _knobs_options(argv, prog).words
    runtimes = [f"runtime={word}" for word in words if "=" not in word]
    return _with_config([*runtimes, *(word for word in words if "=" in word)], _show_knobs)


def _options(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Check whether a configuration can run on this machine: GPUs, engine, model, genai-bench, "
        "compatible knobs, memory. Deploys nothing. Exit code 1: a check failed; 2: the configuration is not valid.",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="NAME=VALUE",
        help="the configuration to check, e.g. runtime=sglang hardware=h100 page_size=64",
    )
    parser.add_argument(
        "--knobs",
        nargs="?",
        const="",
        metavar="RUNTIME",
        help="list the knobs of a runtime instead, as servetune knobs does",
    )
    return parser.parse_intermixed_args(argv)


def _knobs_options(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [-h] [RUNTIME] [NAME=VALUE ...]",
        description="List the knobs of a runtime: the values each takes, its flag, the engine's default, its meaning.",
        epilog=f"example: {prog} sglang runtime.version=0.5.10.post1",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="RUNTIME",
        help="sglang, vllm or llamacpp, the default; runtime.version=... lists the knobs of another engine version",
    )
    return parser.parse_intermixed_args(argv)


def _with_config(overrides: Sequence[str], action: Callable[[Config], int]) -> int:
    try:
        with initialize_config_dir(str(CONF)):
            config = to_config(composed(overrides))
        return action(config)
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _examine(asked: Config) -> int:
    is_well, config = True, asked
    try:
        config = hardware.resolved(asked)
    except PipelineError as error:
        is_well = False
        sys.stdout.write(f"FAIL  hardware: {error} {error.hint}\n")
    for name, passed, found in preflight.examine(config):
        is_well = is_well and passed
        sys.stdout.write(f"{'ok  ' if passed else 'FAIL'}  {name}: {found}\n")
    return 0 if is_well else 1


def _show_knobs(config: Config) -> int:
    runtime = config.runtime
    if versions.unknown(runtime.name, runtime.version):
        catalogue.load(runtime.name, str(runtime.version))  # which raises
    console = Console(width=None if Console().is_terminal else PIPE_WIDTH, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("knob", "values", "flag", "default", "meaning"):
        table.add_column(title, overflow="fold")
    for row in _rows(config):
        table.add_row(*row)
    console.print(
        f"Knobs of runtime={runtime.name}{f' {runtime.version}' if runtime.version else ''}; null, the default"
    )
    console.print("of every knob, leaves the flag out. Other flags: 'runtime.extra_args=[--flag,value]'.\n")
    console.print(table)
    others = [version for version in catalogue.versions(runtime.name) if version != runtime.version]
    if others:
        console.print(f"\nOther versions: runtime.version={', '.join(others)}")
    return 0


def _rows(config: Config) -> Iterator[tuple[str, ...]]:
    runtime = config.runtime
    for name, knob in runtime.knobs.items():
        if is_of(knob.versions, runtime.version):
            values, default = _of_version(config, knob)
            yield name, values, knob.spelled(runtime.version), default, knob.help


def _of_version(config: Config, knob: Knob) -> tuple[str, str]:
    """The values that this version takes, and its parser's default."""
    runtime = config.runtime
    if runtime.version not in catalogue.versions(runtime.name):
        return allowed(knob), ""
    flag = catalogue.load(runtime.name, runtime.version).find(knob.spelled(runtime.version))
    there = [choice for choice in knob.choices if flag and (not flag.choices or choice in flag.choices)]
    default = "" if flag is None or flag.default is None else str(flag.default)
    return " ".join(there) or allowed(knob), default


if __name__ == "__main__":
    sys.exit(entry.run(main))
