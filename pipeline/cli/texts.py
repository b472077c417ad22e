"""What `servetune --help` and `servetune --version` print."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

from pipeline.cli.commands import COMMANDS
from pipeline.engines.versions import versions

HELP = """\
usage: servetune [-m] [NAME=VALUE ...]
       servetune COMMAND ...

Tune LLM inference servers: deploy, measure with genai-bench, tear down, rank the configurations.

Without a command, servetune deploys and measures one configuration (a trial).
With -m it runs a sweep: a trial for each combination of the listed values.

commands:
{commands}

overrides:
  NAME=VALUE replaces one value of the configuration.
  runtime=sglang            choose an option of a group: runtime, model, backend, hardware,
                            traffic, slo, tracker, experiment, hydra/launcher, hydra/sweeper
  page_size=32              set a knob, that is a flag of the engine; null leaves the flag out
  traffic.min_requests=50   set any other value
  page_size=16,32,64        with -m: values to sweep over
  Quote what the shell would read: 'traffic.scenarios=["D(64,16)"]'

options:
  -m, --multirun            run a sweep
  --config-dir DIR          also take configuration options from a folder of your own
  --cfg job                 print the configuration and stop
  --completion SHELL        print the completion script for bash, zsh or fish
  --version                 print versions
  -h, --help                print this help; after a command, the help of that command

examples:
  servetune doctor
  servetune n_threads=2
  servetune -m n_threads=null,1,2 n_parallel=null,4
  servetune dry-run -m runtime=sglang hardware=h100 attention_backend=flashinfer,fa3
  servetune report outputs/2026-01-31_12-00-00
  servetune stop outputs/2026-01-31_12-00-00 3
  eval "$(servetune --completion bash)"

`servetune NAME=VALUE --help` lists every group, option and value of a configuration:
`servetune runtime=sglang --help`. `python -m pipeline` is the same as `servetune`.
"""
ENGINES = ("sglang", "vllm")
PACKAGES = ("servetune", "genai-bench", "hydra-core", "optuna", "xllamacpp")


def help_() -> str:
    """The one help for all."""
    commands = "\n".join(f"  {name:12}{command.summary}" for name, command in COMMANDS.items())
    return HELP.format(commands=commands)


def version() -> str:
    """Ours, that of what the numbers depend on, and the engine versions whose flags we know."""
    ours, *others = (f"{name} {_installed(name)}" for name in PACKAGES)
    lines = [ours, f"Python {platform.python_version()}, {', '.join(others)}", "Engine versions with a flag catalogue:"]
    return "\n".join([*lines, *(f"  {engine}: {', '.join(versions(engine))}" for engine in ENGINES), ""])


def _installed(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return "(not installed)"
