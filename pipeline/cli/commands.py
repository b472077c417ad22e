"""The commands of `servetune`, and what may follow each of them."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Takes = Literal["overrides", "runtime", "folder", "release", "nothing"]


class Command(NamedTuple):  # not our own @value: pydantic takes longer than a whole completion
    """One word after `servetune`."""

    module: str
    summary: str
    function: str = "main"  # of that module
    takes: Takes = "overrides"
    flags: Mapping[str, str] = {}  # with what each is for


CHECKED = "pipeline.doctor"
COMMANDS: Mapping[str, Command] = {
    "dry-run": Command(
        module="pipeline.cli.dry_run",
        summary="show each trial's command, verdict and time estimate; start nothing",
        flags={"-m": "every trial of a sweep", "--multirun": "every trial of a sweep"},
    ),
    "doctor": Command(module=CHECKED, summary="check whether a configuration can run on this machine"),
    "knobs": Command(
        module=CHECKED,
        function="knobs",
        summary="list the knobs of a runtime: values, flag, default, meaning",
        takes="runtime",
    ),
    "report": Command(
        module="pipeline.report.__main__",
        summary="rank the trials of a sweep; write report.html, tables and best/",
        takes="folder",
        flags={"--no-html": "leave out report.html and the summaries"},
    ),
    "compare": Command(
        module="pipeline.compare",
        summary="put sweeps side by side: what differs, and what is shown of it",
        takes="folder",
        flags={"--any-model": "also compare scores of different models", "--json": "print JSON, for programs"},
    ),
    "recheck": Command(
        module="pipeline.recheck",
        summary="measure a sweep's best configuration again and compare",
        takes="folder",
        flags={
            "--tolerance": "relative difference allowed of throughput, goodput and errors",
            "--latency-tolerance": "relative difference allowed of latencies",
        },
    ),
    "replay": Command(
        module="pipeline.replay.__main__",
        summary="compare search strategies on recorded measurements, without a server",
        takes="folder",
        flags={
            "--strategies": "strategies to compare",
            "--learn-from": "landscapes of which a past sweep is known",
            "--reference": "strategies that the others are compared with",
            "--seeds": "searches of each strategy on each table",
            "--trials": "budget in whole trials",
            "--slots": "trials at once",
            "--workers": "processes",
            "--out": "folder to write to",
            "--score": "the score's column",
            "--noise": "standard deviation of a measurement",
            "--default-at": "the engine's defaults as a share of the best",
        },
    ),
    "ps": Command(
        module="pipeline.ps",
        summary="list what runs: sweeps, trials, steps, processes, GPUs",
        takes="nothing",
        flags={"--json": "print JSON, for programs"},
    ),
    "stop": Command(
        module="pipeline.stop",
        summary="end all sweeps, one, or one trial of it; with teardown and record",
        takes="folder",
        flags={"--timeout": "seconds to wait for the end"},
    ),
    "reap": Command(
        module="pipeline.reap",
        summary="remove servers whose trial was killed",
        flags={"--list": "list only, remove nothing", "--all-hosts": "also remove trials of other machines"},
    ),
    "sync": Command(module="pipeline.sync", summary="upload offline W&B runs", takes="folder"),
    "catalogues": Command(
        module="pipeline.catalogues",
        summary="read every flag of an engine release from its package",
        takes="release",
        flags={
            "--check": "say what the newest release changes",
            "--wheel": "the release's wheel",
            "--index": "package index",
            "--to": "folder to write to",
        },
    ),
}
OPTIONS: Mapping[str, str] = {
    "-m": "run a sweep",
    "--multirun": "run a sweep",
    "--config-dir": "folder with options of your own",
    "--cfg": "print the configuration, run nothing",
    "--version": "print versions",
    "--completion": "print the completion script of a shell",
    "--help": "help",
}
SHELLS = ("bash", "zsh", "fish")
WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--cfg", "-c", "--package", "-p")
HELP, MULTIRUN = ("--help", "-h"), ("-m", "--multirun")
