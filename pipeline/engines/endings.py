"""What an exit code or a signal says of an engine that ended and left no word about it. Pure."""

import re

from pipeline.core.errors import FailureKind

LIMIT = "The container ran out of memory: raise backend.container.memory_gib; if it is not set, free host memory."
OOM_KILLED = (
    "The kernel's OOM killer ended a process of the engine's memory cgroup: raise its limit (Slurm's --mem, systemd's "
    "MemoryMax, the container's memory), run fewer trials at once, or make the engine smaller."
)
FROM_OUTSIDE = (
    "Another program killed a process of the engine (SIGKILL). It was not the kernel's OOM killer, which counted no "
    "kill: look for a person, a scheduler, earlyoom or systemd-oomd."
)
RUN_BY_HAND = "Read the end of server.log; run the command in plan.json by hand."
_SIGNALS = {134: "SIGABRT", 135: "SIGBUS", 137: "SIGKILL", 139: "SIGSEGV", 143: "SIGTERM"}  # of a shell or a container
_ENDINGS = {
    "exit code 126": (
        FailureKind.ENGINE_BROKEN,
        "The command cannot be executed: make runtime.python executable for its user, or mount it without noexec.",
    ),
    "exit code 127": (
        FailureKind.ENGINE_BROKEN,
        "The command, or a library of it, is not there: check runtime.python, or the image's entrypoint.",
    ),
    "SIGKILL": (
        FailureKind.OOM_HOST,
        "Check `dmesg`: another process killed the engine, most often the kernel's OOM killer.",
    ),
    "SIGTERM": (
        FailureKind.SERVER_DIED,
        "Another program asked the engine to end (SIGTERM): look for a person, a scheduler, or earlyoom.",
    ),
    "SIGBUS": (
        FailureKind.OOM_HOST,
        "Most often /dev/shm is too small: in a container raise backend.container.shm_size_gib, or use --ipc=host.",
    ),
    "SIGSEGV": (FailureKind.SERVER_DIED, f"The engine crashed in its own code. {RUN_BY_HAND}"),
    "SIGABRT": (FailureKind.SERVER_DIED, f"The engine aborted itself. {RUN_BY_HAND}"),
}


def signal_of(how: str) -> str:
    """`SIGKILL` of `killed by SIGKILL`, or of `exit code 137`; empty where it was none."""
    named = re.search(r"SIG[A-Z]+", how)
    code = re.search(r"exit code (\d+)", how)
    return named[0] if named else _SIGNALS.get(int(code[1]), "") if code else ""


def meaning(how: str) -> tuple[FailureKind, str]:
    """The kind, and what to do."""
    return _ENDINGS.get(how) or _ENDINGS.get(signal_of(how), (FailureKind.SERVER_DIED, RUN_BY_HAND))
