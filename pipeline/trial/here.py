"""What a dry run can say of the machine where trials run, without asking a daemon, a cluster or an engine."""

from collections.abc import Iterator

from pipeline.backends import docker_checks
from pipeline.core.errors import PipelineError
from pipeline.core.findings import Finding
from pipeline.core.schema import Config
from pipeline.core.values import value
from pipeline.trial import cpu, hardware

SOURCE = "this machine"


@value
class Here:
    """A trial's configuration for the hardware that is there, and what to know of it."""

    config: Config
    hardware: str | None  # what is there, in words; None: the hardware was named, and nothing is to be said
    findings: tuple[Finding, ...] = ()
    is_known: bool = True  # False: hardware=auto, and a person has to choose


def look(config: Config) -> Here:
    """As trials would find it; with named hardware, which may be another machine's, how that differs."""
    if config.backend.is_endpoint:  # named or not, it is another machine's
        return Here(config=hardware.resolved(config), hardware=None)
    try:
        found = hardware.resolved(config)
    except PipelineError as error:
        why = _finding("hardware_unknown", str(error).splitlines()[0])
        return Here(config=config, hardware="not known, so not judged", findings=(why,), is_known=False)
    told = _told(found, is_auto=config.hardware.is_auto) if _is_here(found) else _found(found, config)
    return Here(config=found, hardware=told, findings=tuple(_findings(found, is_auto=config.hardware.is_auto)))


def elsewhere(config: Config) -> Here:
    """For trials on other machines, which this one does not tell of."""
    is_auto = config.hardware.is_auto
    return Here(config=config, hardware="looked at on the job's node, so not judged here" if is_auto else None)


def _is_here(config: Config) -> bool:
    """Whether looking costs nothing: not for a cluster, nor for a remote daemon."""
    return not config.backend.is_elsewhere and not docker_checks.is_remote(config)


def _found(found: Config, asked: Config) -> str | None:
    return f"{found.hardware.name}: what is there" if asked.hardware.is_auto else None


def _told(found: Config, *, is_auto: bool) -> str | None:
    missing = hardware.missing(found) if found.runtime.on_gpu else None
    if is_auto:
        return f"{found.hardware.name}: {missing or 'what is here'}"
    differs = hardware.trouble(found) or hardware.difference(found) or missing
    return f"warned: {differs}" if differs else None


def _findings(found: Config, *, is_auto: bool) -> Iterator[Finding]:
    if short := cpu.shortage(found):
        is_checked = found.runtime.on_cpu.kv_gib is not None  # before deploying
        yield _finding(
            "memory_of_this_machine", f"{short} {'The trial is refused here' if is_checked else ''}".rstrip()
        )
    fewer = hardware.missing(found) if is_auto and _is_here(found) else None
    if fewer and found.gpus > sum(kind.count for kind in hardware.seen(found)):
        yield _finding("gpus_of_this_machine", f"the trial takes {found.gpus} GPUs; {fewer}")


def _finding(rule: str, reason: str) -> Finding:
    return Finding(rule=rule, verdict="warned", reason=reason.rstrip("."), source=SOURCE)
