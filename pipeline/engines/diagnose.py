"""Turns logs, exit codes and HTTP answers into a failure kind, a hint and the engine's own reason. Pure.

The wordings are data in pipeline.engines.death_patterns; this module searches for them. A log is matched line by line,
without the engines' prefixes and without lines below the level of an error, so that a harmless warning is never taken
for the cause (pipeline.engines.log_lines).
"""

import re
from collections.abc import Mapping, Sequence

from pipeline.core.errors import FailureKind
from pipeline.core.values import value
from pipeline.engines import endings, pod_ends
from pipeline.engines.death_hints import ANY, BAD_FLAG, KNOBS, LLAMA, LOST, SGLANG, TRANSFORMERS, VLLM, Pattern
from pipeline.engines.death_patterns import PATTERNS
from pipeline.engines.log_lines import Line, lines

LONGEST_REASON = 240
REFUSALS = ("429", "503")
CLIENT_CAUSES = ("too_many_open_files", "name_resolution", "no_free_port", "no_buffers", "no_memory")

_EXCEPTION = re.compile(r"\s*Value error, |\s*what\(\): |(\w+\.)*\w*(Error|Exception|ExceptionGroup)(: |$)")
_ECHO = re.compile(
    r"[Ss]ee (stack trace|root cause)|scheduler died during initialization|ProcessRaisedException"
    r"|RequestValidationError\b|RuntimeError: cancelled$|ExceptionGroup: .* \(\d+ sub-exceptions?\)$"
    r"|(CancelledError|EOFError|BrokenPipeError|ConnectionResetError|EngineDeadError)\b"
)  # what a process says because another one failed
_USAGE = re.compile(r"[\w./ -]+: error: ")  # argparse; a compiler names a file and a line first
# SGLang then kills its processes and itself: SIGKILL means nothing here
_KILLS_ITSELF = re.compile(
    r"[Rr]eceived sigquit from a child process|SIGQUIT received\. |(Manager|Router) hit an exception: "
    r"|Initialization failed\. "
)
_KILL = re.compile(r"-9\b|^Killed$")
_REFUSAL = re.compile(r"(\w+\.)*(ValueError|AssertionError|NotImplementedError|ValidationError)\b|\s*Value error, ")
_SERVED = re.compile(
    r"fired up and ready to roll|Application startup complete|Uvicorn running on|\"POST /\S+ HTTP/1\.\d\" 200"
    r"|Decode batch|Avg prompt throughput|EngineCore encountered a fatal error|listening on http"
)
_ANSWERED = re.compile(
    r"\"(GET|POST) /\S* HTTP/\d\.\d\" 200|(Decode|Prefill) batch|Avg prompt throughput: "
    r"|log_server_r: .* 200$|print_timing: ",
    re.MULTILINE,
)
_ASKED = re.compile(r"SIGTERM received\. signum=|Signal SIGTERM received ")  # SGLang, which then ends with code 0
# By words that no other engine writes first: transformers may be installed in another engine's folder
_OWN = r"^\[transformers\] Loading |transformers[./]cli[./](serv|transformers)|generation/continuous_batching/"
_ENGINES = (
    (TRANSFORMERS, _OWN),
    (SGLANG, r"sglang"),
    (VLLM, r"vllm|\(EngineCore|\(APIServer"),
    (LLAMA, r"llama[_.]|ggml_|gguf"),
)
_STAGES = (
    ("downloading the model", r"Downloading|Fetching \d+ files"),
    (
        "loading the weights",
        r"Load weight begin|Starting to load model|Loading \S+ (checkpoint )?shards|load_tensors: ",
    ),
    ("compiling", r"Warming up model for the compilation|Dynamo bytecode|Compiling a graph|torch\.compile|DeepGEMM"),
    ("capturing CUDA graphs", r"[Cc]apturing (CUDA graphs|batches)|Capture .*(graph|begin)"),
)


@value
class Diagnosis:
    """What happened. `reason` is the engine's own line, empty where it left none."""

    kind: FailureKind
    hint: str
    reason: str = ""


def server_death(how: str, log: str, *, oom_kills: int | None = None) -> Diagnosis:
    """Why a server ended `how` (`exit code 1`, `killed by SIGKILL`, `... by the memory limit`) leaving `log`.

    Where Kubernetes ended its pod (pipeline.engines.pod_ends), its log tells at most what it said of that.

    `oom_kills`: how many processes of its cgroup the kernel's OOM killer ended meanwhile; None where nobody can tell.
    """
    taken = pod_ends.of(how)
    if taken:
        return Diagnosis(kind=taken.kind, hint=taken.hint)
    how = "SIGTERM" if _ASKED.search(log) and not endings.signal_of(how) else how
    said = _telling(_unsurvived(how, log))
    if "memory limit" in how:  # Docker has seen it
        return Diagnosis(kind=FailureKind.OOM_HOST, hint=endings.LIMIT, reason=_short(_root(said)))
    pattern, line = _cause(log, said)
    if pattern and not pattern.is_loss:
        return _told(pattern, line, log)
    is_vague = pattern and (pattern.kind == FailureKind.SERVER_DIED or _KILLS_ITSELF.search(log))
    if is_vague and _root(said):  # what it raised says more
        pattern, line = None, ""
    found = _by_the_kernel(how, said, line, oom_kills)
    if found:
        return found
    return _told(pattern, line, log) if pattern else _by_ending(how, log, said)


def _unsurvived(how: str, log: str) -> str:
    """What may tell of a kill from outside: an engine that answered after an error did not end of it."""
    if endings.signal_of(how) not in {"SIGKILL", "SIGTERM"} or _KILLS_ITSELF.search(log):
        return log
    answers = [match.end() for match in _ANSWERED.finditer(log)]
    return log[answers[-1] :] if answers else log


def _by_the_kernel(how: str, lines: Sequence[str], lost: str, oom_kills: int | None) -> Diagnosis | None:
    """What the kernel's count says where a process is gone (`lost`, as a wording says it) and none says why."""
    raised = lost or _root(lines)
    reason = _short(raised or _last_words(lines))
    is_killed = endings.signal_of(how) == "SIGKILL"
    if oom_kills and (lost or not raised or is_killed):  # else the kill may have been a neighbour's
        return Diagnosis(kind=FailureKind.OOM_HOST, hint=endings.OOM_KILLED, reason=reason)
    if oom_kills == 0 and (_KILL.search(lost) or (not raised and is_killed)):
        return Diagnosis(kind=FailureKind.SERVER_DIED, hint=endings.FROM_OUTSIDE, reason=reason)
    return None


def _last_words(lines: Sequence[str]) -> str:
    """What vLLM says when its EngineCore is gone; it then ends with exit code 0."""
    return next((line for line in reversed(lines) if "EngineDeadError: " in line), "")


def _by_ending(how: str, log: str, lines: Sequence[str]) -> Diagnosis:
    """What the exit code and the last exception say where no wording is known."""
    reason = _short(_root(lines))
    usage = next((line for line in lines if _USAGE.match(line)), "") if how == "exit code 2" else ""
    if usage:  # a parser's own check, in words of its own
        return Diagnosis(kind=FailureKind.BAD_FLAG, hint=BAD_FLAG, reason=_short(usage))
    if not reason and (lost := _last_words(lines)):
        return Diagnosis(kind=FailureKind.SERVER_DIED, hint=LOST, reason=_short(lost))
    if _REFUSAL.match(reason) and not _SERVED.search(log):
        hint = "Change the knob that the message names: the engine rejected this configuration."
        return Diagnosis(kind=FailureKind.LOAD_FAILED, hint=hint, reason=reason)
    kind, hint = endings.meaning(how)
    if _KILLS_ITSELF.search(log):
        kind, hint = FailureKind.SERVER_DIED, endings.RUN_BY_HAND
    if kind == FailureKind.ENGINE_BROKEN:  # a shell or the dynamic loader says it last, in words of its own
        reason = reason or _short(next((line for line in reversed(lines) if line.strip()), ""))
    return Diagnosis(kind=kind, hint=hint, reason=reason)


def _told(pattern: Pattern, line: str, log: str) -> Diagnosis:
    return Diagnosis(kind=pattern.kind, hint=_hint(pattern, engine_of(log), log), reason=_short(line))


def in_log(log: str) -> Diagnosis | None:
    """What the log of a living server that answers no request says of it: a part of it may have died."""
    pattern, line = _cause(log, _telling(log))
    return _told(pattern, line, log) if pattern else None


def never_ready(log: str) -> Diagnosis | None:
    """Why a server that still runs will not become ready; None where its log says no such thing."""
    ends = [pattern for pattern in PATTERNS if pattern.is_end]
    if not any(re.search(end.regex, log, re.MULTILINE) for end in ends):  # asked often: most logs need no closer look
        return None
    pattern, line = _cause(log, _telling(log), ends)
    return _told(pattern, line, log) if pattern else None


def not_ready(seen: str, log: str) -> Diagnosis:
    """What it means that a living server was not ready at the deadline: `seen` is its last answer.

    `seen` is as pipeline.engines.http.health gives it: `HTTP 503: ...` or the name of a connection's error.
    """
    pattern, line = _cause(log, _telling(log))
    if pattern:
        found = _told(pattern, line, log)
        return Diagnosis(kind=found.kind, hint=f"The engine hangs after an error. {found.hint}", reason=found.reason)
    status = re.match(r"HTTP (\d+)", seen)
    if status and status[1] != "503":
        hint = f"Check runtime.health.path and SERVETUNE_API_KEY: the server answers {status[0]} instead of HTTP 200."
        return Diagnosis(kind=FailureKind.NOT_READY_IN_TIME, hint=hint)
    stage = _stage(log)
    if stage:
        return _slow(f"Raise runtime.health.timeout_s: the engine was still {stage} (end of server.log).")
    if status:
        return _slow("Raise runtime.health.timeout_s: the server answers HTTP 503, so it is still starting.")
    return _slow(
        "Raise runtime.health.timeout_s if the model is still loading at the end of server.log, else check the host "
        "and port in plan.json: nothing answered on the port."
    )


def overload(codes: Mapping[str, int], total: int, runtime: str = "") -> Diagnosis | None:
    """What it means that a living server refused all `total` requests; None where it did not.

    `codes` counts HTTP codes; the plain genai-bench command writes 503 for a refused or broken connection, too.
    """
    refused = sum(codes.get(code, 0) for code in REFUSALS)
    if not total or refused < total:
        return None
    raise_what = {
        SGLANG: "raise max_running_requests (or --max-queued-requests, if you set it)",
        VLLM: "raise max_num_seqs (or max_num_queued_reqs, if you set it)",
        LLAMA: "raise n_parallel or n_threads_http",
    }.get(runtime, "let the engine take more requests at once")
    hint = f"The server runs but rejected requests: lower traffic.concurrencies, or {raise_what}; see server.log."
    return Diagnosis(kind=FailureKind.OVERLOADED, hint=hint)


def failed_requests(causes: Mapping[str, int], total: int, runtime: str = "") -> Diagnosis | None:
    """What it means that `total` requests failed for these causes; None without a cause.

    `causes` counts HTTP statuses and the words of pipeline/bench/causes.py.
    """
    if found := overload(causes, total, runtime):
        return found
    commonest = max(causes, key=lambda cause: causes[cause], default="")
    if commonest in CLIENT_CAUSES:
        hint = "This machine's own limit, not the server's: the message names it."
        return Diagnosis(kind=FailureKind.CLIENT_LIMIT, hint=hint)
    if re.fullmatch(r"4\d\d", commonest):
        hint = "The server rejects these requests: change the traffic, or the knob that its message names."
        return Diagnosis(kind=FailureKind.REQUEST_REJECTED, hint=hint)
    if commonest in ("open", "missed"):
        hint = "No answer in time: raise traffic.max_time_per_level_s if the server is slow, else read server.log."
        return Diagnosis(kind=FailureKind.BENCH_ERROR, hint=hint)
    hint = "What the server said is in the message; its log is server.log, each request is in requests.jsonl."
    return Diagnosis(kind=FailureKind.BENCH_ERROR, hint=hint) if commonest else None


def engine_of(log: str) -> str | None:
    """Which engine wrote a log, by its own words."""
    return next((name for name, sign in _ENGINES if re.search(sign, log, re.IGNORECASE | re.MULTILINE)), None)


def _slow(hint: str) -> Diagnosis:
    return Diagnosis(kind=FailureKind.NOT_READY_IN_TIME, hint=hint)


def _telling(log: str) -> list[str]:
    """The lines that may tell why: without asides that came after an error, which they follow from."""
    seen = lines(log)
    if not any(line.is_aside for line in seen):
        return [line.text for line in seen]
    first = next((i for i, line in enumerate(seen) if not line.is_aside and _is_error(line)), len(seen))
    return [line.text for i, line in enumerate(seen) if i < first or not line.is_aside]


def _is_error(line: Line) -> bool:
    is_raised = _EXCEPTION.match(line.text) and not _ECHO.search(line.text)
    return bool(is_raised) or any(re.search(pattern.regex, line.text) for pattern in PATTERNS)


def _cause(log: str, lines: Sequence[str], patterns: Sequence[Pattern] = PATTERNS) -> tuple[Pattern | None, str]:
    """The first pattern in the order of causes that matches, with the first line it matches."""
    engine = engine_of(log)
    for pattern in patterns:
        if engine is None or pattern.engine in (ANY, engine):
            line = next((line for line in lines if re.search(pattern.regex, line)), None)
            if line is not None:
                return pattern, line
    return None, ""


def _hint(pattern: Pattern, engine: str | None, log: str) -> str:
    text = pattern.hint_running if pattern.hint_running and _SERVED.search(log) else pattern.hint
    return text.format_map(knobs(engine if pattern.engine == ANY else pattern.engine))


def knobs(engine: str | None) -> Mapping[str, str]:
    """The knobs by their parts as `engine` spells them; both GPU engines' spellings where it is not known."""
    if engine is not None and engine in KNOBS:
        return KNOBS[engine]
    return {part: " / ".join(dict.fromkeys(KNOBS[name][part] for name in (SGLANG, VLLM))) for part in KNOBS[SGLANG]}


def _root(lines: Sequence[str]) -> str:
    """The last exception that is not another process's echo: parents print theirs after their children's."""
    raised = [line for line in lines if _EXCEPTION.match(line) and not _ECHO.search(line)]
    return raised[-1] if raised else ""


def _short(line: str) -> str:
    text = re.sub(r" \[type=\w+, input_value=.*", "", line.strip())  # pydantic repeats the whole configuration
    text = re.sub(r"^what\(\): +", "", text)
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def _stage(log: str) -> str | None:
    """The stage that the log speaks of last."""
    last = {name: [match.start() for match in re.finditer(sign, log)][-1:] for name, sign in _STAGES}
    return max((places[0], name) for name, places in last.items() if places)[1] if any(last.values()) else None
