"""Logs and exit codes -> one failure kind and one hint. Pure.

The patterns are llama.cpp's and our launcher's own words; other engines' come with their runtimes. The first that
matches wins: "failed to load model" stands last because llama.cpp ends with it whatever the cause was.
"""

import re

from pipeline.errors import FailureKind

_PATTERNS: tuple[tuple[str, FailureKind, str], ...] = (
    (
        r"error: unrecognized arguments|error: argument --|invalid choice|GGML_TYPE_\w+$",
        FailureKind.BAD_FLAG,
        "The engine does not take this flag or value: check runtime.extra_args and the knobs named in the log.",
    ),
    (
        r"couldn't bind|[Aa]ddress already in use",
        FailureKind.PORT_TAKEN,
        "Another program took the port: run the trial again.",
    ),
    (
        r"(failed|unable) to allocate|insufficient memory|[Oo]ut of memory|std::bad_alloc|Cannot allocate memory",
        FailureKind.OOM_HOST,
        "Not enough memory: a smaller n_ctx or n_parallel, or quantised cache_type_k/cache_type_v.",
    ),
    (
        r"failed to create context|failed to init",
        FailureKind.LOAD_FAILED,
        "The engine refused this combination of knobs: the last lines of server.log say why.",
    ),
    (
        r"failed to open GGUF|failed to load model|No such file or directory.*\.gguf|invalid magic",
        FailureKind.MODEL_MISSING,
        "The model file cannot be read: check model.path.",
    ),
)


def server_death(how: str, log: str) -> tuple[FailureKind, str]:
    """The kind and hint for a server that ended `how` (`exit code 1`, `killed by SIGKILL`) leaving `log`."""
    for pattern, kind, hint in _PATTERNS:
        if re.search(pattern, log[-20_000:], re.MULTILINE):
            return kind, hint
    if "SIGKILL" in how:
        return (
            FailureKind.OOM_HOST,
            "Killed from outside, most often by the kernel's OOM killer: see `dmesg`.",
        )
    return FailureKind.SERVER_DIED, "Read the end of server.log; run the command in plan.json by hand."
