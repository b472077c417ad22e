"""`python -m pipeline.doctor [overrides]`: can this configuration run here? Deploys nothing."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline import offers
from pipeline.config import command_line
from pipeline.config.knobs import allowed
from pipeline.core.errors import ConfigError
from pipeline.core.schema import Config, Knob, is_of
from pipeline.core.words import visible
from pipeline.engines import catalogue, versions
from pipeline.machine import entry
from pipeline.trial import preflight

PIPE_WIDTH = 160


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.doctor") -> int:
    """The command. 0: every check passed; 1: one did not; 2: the configuration cannot be used."""
    options = _options(argv, prog)
    if options.hardware or options.models:
        return _listed(options)
    overrides = [f"runtime={options.knobs}"] if options.knobs else []
    action = _examine if options.knobs is None else _show_knobs
    return _with_config([*_folder(options), *overrides, *options.overrides], action)


def _listed(options: argparse.Namespace) -> int:
    folder = Path(options.config_dir).resolve() if options.config_dir else None
    try:
        return offers.hardware(folder) if options.hardware else offers.models(folder)
    except ConfigError as error:
        sys.stderr.write(visible(f"error: {error}\n"))
        return 2


def knobs(argv: Sequence[str] | None = None, prog: str = "servetune knobs") -> int:
    """`servetune knobs [RUNTIME]`. 0: listed; 2: the configuration cannot be used."""
    options = _knobs_options(argv, prog)
    runtimes = [f"runtime={word}" for word in options.words if "=" not in word]
    return _with_config([*_folder(options), *runtimes, *(word for word in options.words if "=" in word)], _show_knobs)


def _folder(options: argparse.Namespace) -> list[str]:
    return [f"hydra.searchpath=[file://{Path(options.config_dir).resolve()}]"] if options.config_dir else []


def _take_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder with options of your own")


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
    parser.add_argument("--hardware", action="store_true", help="list the GPUs that servetune knows, and those here")
    parser.add_argument("--models", action="store_true", help="list the models that servetune knows, and their sizes")
    _take_folder(parser)
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
    _take_folder(parser)
    return parser.parse_intermixed_args(argv)


def _with_config(overrides: Sequence[str], action: Callable[[Config], int]) -> int:
    try:
        return action(command_line.single(overrides))
    except ConfigError as error:
        sys.stderr.write(visible(f"error: {error}\n"))
        return 2


def _examine(asked: Config) -> int:
    is_well = True
    for found in preflight.examine(asked):
        is_well = is_well and found.error is None
        state, told = ("FAIL" if found.error else "ok  "), found.told
        if not found.is_asked:
            state, told = "-   ", f"not checked: {told} above"
        sys.stdout.write(f"{state}  {found.name}: {told}\n")
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
            yield name, values, knob.told(runtime.version), default, knob.help


def _of_version(config: Config, knob: Knob) -> tuple[str, str]:
    """The values that this version takes, and its parser's default."""
    runtime = config.runtime
    if runtime.version not in catalogue.versions(runtime.name):
        return allowed(knob), ""
    if not knob.has_flag:
        return " ".join(knob.choices) or allowed(knob), ""
    flag = catalogue.load(runtime.name, runtime.version).find(knob.spelled(runtime.version))
    there = [choice for choice in knob.choices if flag and (not flag.choices or choice in flag.choices)]
    default = "" if flag is None or flag.default is None else str(flag.default)
    return " ".join(there) or allowed(knob), default


if __name__ == "__main__":
    sys.exit(entry.run(main))
