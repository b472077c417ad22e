"""vLLM: its processes, its start and end, its endpoints. Source: vllm 0.33.0, the lines named below."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NoReturn

from standin import command_line, faults, gpu, log, model
from standin.door import Door, Route, Server
from standin.errors import RefusedError, RejectedError
from standin.exposition import as_text, histogram
from standin.faults import Fault
from standin.ranks import Ranks
from standin.serving import Answer, Ask, Serving
from standin.vllm_config import nested
from standin.vllm_resolve import Resolved, resolve

DEVELOPMENT = "VLLM_SERVER_DEV_MODE"
BUSY = (  # exceptions.py:170
    "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
)


class VllmDoor(Door):
    """entrypoints/serve/instrumentator, entrypoints/serve/dev, entrypoints/openai."""

    open_paths = ("/health", "/ping", "/version", "/metrics", "/load", "/server_info", "/reset_prefix_cache")
    resolved: ClassVar[Resolved]
    version: ClassVar[str]

    def route(self, line: str) -> Route | None:
        development = {"GET /server_info": self.server_info, "POST /reset_prefix_cache": self.reset}
        return {
            "GET /health": self.health,
            "GET /ping": self.health,
            "POST /ping": self.health,
            "GET /version": self.tell_version,
            "GET /load": self.load,
            "GET /metrics": self.metrics,
            "GET /v1/models": self.models,
            "POST /v1/chat/completions": self.chat,
            "POST /v1/completions": self.completions,
            **(development if os.environ.get(DEVELOPMENT) == "1" else {}),
        }.get(line)

    def health(self, _query: dict[str, str]) -> None:
        """It asks whether the engine lives, not whether it works."""
        self.answer(503 if self.serving.is_dead else 200)

    def tell_version(self, _query: dict[str, str]) -> None:
        self.answer(200, {"version": self.version})

    def load(self, _query: dict[str, str]) -> None:
        """Counted with --enable-server-load-tracking alone."""
        is_counted = self.resolved.args["enable_server_load_tracking"]
        self.answer(200, {"server_load": self.serving.running + self.serving.waiting if is_counted else 0})

    def models(self, _query: dict[str, str]) -> None:
        args = self.resolved.args
        card = {"object": "model", "owned_by": "vllm", "root": args["model"], "parent": None}
        card["max_model_len"] = args["max_model_len"]
        self.answer(200, {"object": "list", "data": [{"id": name, **card} for name in args["served_model_name"]]})

    def metrics(self, _query: dict[str, str]) -> None:
        """v1/metrics/loggers.py:528-1001."""
        serving, totals = self.serving, self.serving.totals
        numbers = {
            "vllm:num_requests_running": serving.running,
            "vllm:num_requests_waiting": serving.waiting,
            "vllm:kv_cache_usage_perc": 0.5 * serving.running / max(1, serving.knobs.max_running),
            "vllm:num_preemptions_total": 0,
            "vllm:request_success_total": totals["requests"],
            "vllm:prompt_tokens_total": totals["prompt"],
            "vllm:generation_tokens_total": totals["output"],
            "vllm:prefix_cache_queries_total": totals["prompt"],
            "vllm:prefix_cache_hits_total": totals["cached"],
            **histogram("vllm:request_queue_time_seconds", totals["queue_s"], totals["requests"]),
            **histogram("vllm:request_prefill_time_seconds", totals["prefill_s"], totals["requests"]),
        }
        self.answer(200, as_text(numbers, {"engine": "0", "model_name": self.resolved.args["served_model_name"][0]}))

    def server_info(self, query: dict[str, str]) -> None:
        """entrypoints/serve/dev/server_info: the configuration as text unless JSON is asked for."""
        config = nested(self.resolved)
        told = config if query.get("config_format") == "json" else str(config)
        environment = {name: item for name, item in os.environ.items() if name.startswith("VLLM_")}
        self.answer(200, {"vllm_config": told, "vllm_env": environment, "system_env": {"os": sys.platform}})

    def reset(self, _query: dict[str, str]) -> None:
        """0.33.0 says whether it worked; 0.19.1 does not."""
        log.vllm("Resetting prefix cache...")
        is_done = self.serving.empty_cache()
        self.answer(200, {"success": is_done} if "max_num_queued_reqs" in self.resolved.args else None)

    def chat(self, _query: dict[str, str]) -> None:
        self.complete(is_chat=True)

    def completions(self, _query: dict[str, str]) -> None:
        self.complete(is_chat=False)

    def rejected(self, status: int, words: str) -> Any:
        """entrypoints/serve/exception_handling/error_response.py:12."""
        kinds = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError", 503: "Service Unavailable"}
        return {"error": {"message": words, "type": kinds[status], "param": None, "code": status}}

    def admit(self, ask: Ask) -> None:
        """v1/engine/async_llm.py:352 counts running and waiting ones; entrypoints/serve/engine/serving.py:213."""
        if ask.model not in (None, *self.resolved.args["served_model_name"]):
            raise RejectedError(404, f"The model `{ask.model}` does not exist.")
        limit = self.resolved.args.get("max_num_queued_reqs")
        at_once = self.serving.running + self.serving.waiting + 1
        if (limit is not None and at_once > limit) or self.serving.refuses(None):
            raise RejectedError(503, BUSY)

    def chunks(self, answer: Answer, texts: Iterator[str], head: dict[str, Any], *, is_chat: bool) -> Iterator[Any]:
        """The finish reason comes with the last token."""

        def chunk(said: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
            return {**head, "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": reason}]}

        for number, text in enumerate(texts):
            if number == 0 and is_chat:
                yield chunk({"delta": {"role": "assistant", "content": ""}})
            reason = answer.finish_reason if answer.made == answer.length else None
            yield chunk({"delta": {"content": text}} if is_chat else {"text": text}, reason)

    def usage(self, answer: Answer) -> dict[str, Any]:
        """Cached tokens with --enable-prompt-tokens-details alone."""
        told = {"cached_tokens": answer.cached_tokens} if self.resolved.args["enable_prompt_tokens_details"] else None
        total = answer.prompt_tokens + answer.made
        counts = {"prompt_tokens": answer.prompt_tokens, "total_tokens": total, "completion_tokens": answer.made}
        return {**counts, "prompt_tokens_details": told}


def main(argv: Sequence[str]) -> NoReturn:
    """Start, serve, end. The port is bound before the model is loaded and listened on after: launcher.py:340."""
    fault = faults.from_environment()
    version = command_line.version("vllm")
    args = vars(command_line.vllm(argv, version))
    log.vllm(f"vLLM API server version {version}")
    server = Server(args["host"] or "", args["port"], VllmDoor)
    server.bind_or_exit(log.vllm_plain)
    loaded = model.load(args["model"])
    try:
        resolved = resolve(args, loaded, gpu.from_environment())
    except RefusedError as error:
        _refuse(error)
    for warning in resolved.warnings:
        log.vllm(warning, level="WARNING", who="EngineCore")
    log.vllm(f"Using {resolved.backend} attention backend", who="EngineCore")
    ranks = _start_core(log.OOM if "oom" in fault.name else log.DEAD)
    VllmDoor.resolved, VllmDoor.version = resolved, version
    VllmDoor.serving = Serving(resolved.knobs(), loaded, fault, lambda _name: _die(ranks))
    keys = args["api_key"] or os.environ.get("VLLM_API_KEY") or ()
    VllmDoor.keys = (keys,) if isinstance(keys, str) else tuple(keys)
    _serve(fault, ranks, server)


def _refuse(error: RefusedError) -> NoReturn:
    """A configuration that pydantic refuses, or an EngineCore that fails."""
    if error.by_rank:
        _fail_to_start(_start_core(f"{error.kind}: {error}"))
    log.vllm_plain(
        "Traceback (most recent call last):",
        '  File "vllm/entrypoints/cli/main.py", line 97, in main',
        f"pydantic_core._pydantic_core.ValidationError: 1 validation error for {error.kind}",
        *f"  Value error, {error} [type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]".splitlines(),
    )
    sys.exit(1)


def _start_core(last_words: str) -> Ranks:
    """v1/engine/core.py:1584: an EngineCore that fails says so twice and ends with 1."""

    def dies(name: str) -> None:
        text = log.traceback("vllm", last_words)
        log.vllm(f"EngineCore failed to start or met a fatal error.\n{text}", level="ERROR", who=name)
        log.vllm_plain(f"Process {name}:", *text.splitlines(), who=name)
        os._exit(1)

    return Ranks(["EngineCore"], dies)


def _fail_to_start(ranks: Ranks) -> NoReturn:
    """v1/engine/utils.py:1473."""
    code = ranks.kill_one()
    log.vllm_plain(
        "Traceback (most recent call last):",
        '  File "vllm/v1/engine/utils.py", line 1473, in wait_for_engine_startup',
        "RuntimeError: Engine core initialization failed. See root cause above. "
        f"Failed core proc(s): {{'EngineCore': {code}}}",
    )
    sys.exit(1)


def _die(ranks: Ranks) -> None:
    """The requests at hand are answered with an error, then the server ends of itself: launcher.py:330."""
    ranks.kill_one()
    log.vllm(
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. "
        "See stack trace (above) for the root cause.",
        level="ERROR",
    )
    end = threading.Timer(0.2, os._exit, [0])
    end.daemon = True
    end.start()


def _serve(fault: Fault, ranks: Ranks, server: Server) -> NoReturn:
    if fault.name == "oom_at_load":
        _fail_to_start(ranks)
    _stop_when_told(fault, ranks)
    while fault.name == "hang_at_start":
        time.sleep(0.1)
    time.sleep(fault.number("slow_start") or 0)
    server.server_activate()
    log.vllm_plain("INFO:     Application startup complete.")
    server.serve_forever(0.05)
    raise AssertionError  # the end is os._exit


def _stop_when_told(fault: Fault, ranks: Ranks) -> None:
    """launcher.py:262: requests are aborted, not waited for."""

    def leave() -> None:
        time.sleep(fault.number("slow_stop") or 0)
        ranks.kill()
        os._exit(0)

    def told(*_: object) -> None:
        log.vllm("[shutdown] API server: shutdown triggered")
        threading.Thread(target=leave, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN if fault.name == "ignores_term" else told)
