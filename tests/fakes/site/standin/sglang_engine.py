"""SGLang: its processes, its start and end, its endpoints. Source: sglang 0.5.23 srt/, the lines named below."""

import json
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
from standin.sglang_resolve import Resolved, resolve

READY = "The server is fired up and ready to roll!"  # entrypoints/http_server.py:2600
FLUSHED = (
    "Cache flushed.\nPlease check backend logs for more details. "
    "(When there are running or waiting requests, the operation will not be performed.)\n"
)
HEALTH_TIMEOUT_S = 20.0


class SglangDoor(Door):
    """entrypoints/http_server.py:714-1040, entrypoints/openai/serving_chat.py:2478-2805."""

    open_paths = ("/health", "/health_generate", "/ready", "/metrics")
    resolved: ClassVar[Resolved]
    version: ClassVar[str]
    is_starting: ClassVar[bool] = True
    is_leaving: ClassVar[bool] = False
    since: ClassVar[float] = time.time()

    def health(self, _query: dict[str, str]) -> None:
        """It generates one token: a hung scheduler shows."""
        end = time.monotonic() + HEALTH_TIMEOUT_S
        while self.serving.hangs and not self.serving.is_idle and time.monotonic() < end and not self.is_gone():
            time.sleep(0.05)
        is_hung = self.serving.hangs and not self.serving.is_idle
        self.answer(503 if self.is_starting or self.is_leaving or is_hung else 200)

    def models(self, _query: dict[str, str]) -> None:
        name = self.resolved.args["served_model_name"]
        card = {"id": name, "object": "model", "owned_by": "sglang", "root": name, "parent": None}
        self.answer(200, {"object": "list", "data": [{**card, "max_model_len": self.serving.model.context_len}]})

    def model_info(self, _query: dict[str, str]) -> None:
        args, config = self.resolved.args, self.serving.model.config
        told = {name: args.get(name) for name in ("model_path", "served_model_name", "tokenizer_path", "load_format")}
        told |= {"is_generation": True, "preferred_sampling_params": None, "weight_version": "default"}
        self.answer(200, told | {name: config.get(name) for name in ("model_type", "architectures")})

    def server_info(self, _query: dict[str, str]) -> None:
        """utils/common.py:3584, managers/scheduler_components/internal_state.py:46."""
        args = self.resolved.args
        capacity = self.resolved.max_total_num_tokens
        scheduler = {"max_total_num_tokens": capacity, "max_req_input_len": self.serving.model.context_len - 6}
        state = {
            **args,
            "effective_max_running_requests_per_dp": self.resolved.max_running,
            "last_gen_throughput": 0.0,
            "memory_usage": {"token_capacity": capacity},
        }
        launched = " ".join(["python", "-m", "sglang.launch_server", *sys.argv[1:]])
        newer = {"launch_command": launched, "frontend": "python"} if "cuda_graph_config" in args else {}
        self.answer(200, {**args, **newer, **scheduler, "internal_states": [state], "version": self.version})

    def metrics(self, _query: dict[str, str]) -> None:
        """observability/metrics_collector.py; counters are there once they have counted."""
        if not self.resolved.args["enable_metrics"]:
            self.answer(404, {"detail": "Not Found"})
            return
        serving, totals = self.serving, self.serving.totals
        counted = {"sglang:cached_tokens_total": totals["cached"]} if totals["cached"] else {}
        numbers = {
            "sglang:num_running_reqs": serving.running,
            "sglang:num_queue_reqs": serving.waiting,
            "sglang:token_usage": 0.5 * serving.running / max(1, serving.knobs.max_running),
            "sglang:num_requests_total": totals["requests"],
            "sglang:prompt_tokens_total": totals["prompt"],
            "sglang:generation_tokens_total": totals["output"],
            **counted,
            **histogram("sglang:queue_time_seconds", totals["queue_s"], totals["requests"]),
        }
        self.answer(200, as_text(numbers, {"model_name": self.resolved.args["served_model_name"]}))

    def flush(self, _query: dict[str, str]) -> None:
        is_done = self.serving.empty_cache()
        if is_done:
            log.sglang("Cache flushed successfully!", "TP0")
        else:
            counts = f"#queue-req: {self.serving.waiting}, #running-req: {self.serving.running}"
            log.sglang(f"Cache not flushed because there are pending requests. {counts}")
        self.answer(200 if is_done else 400, FLUSHED if is_done else "Flush cache failed.\n")

    def chat(self, _query: dict[str, str]) -> None:
        self.complete(is_chat=True)

    def completions(self, _query: dict[str, str]) -> None:
        self.complete(is_chat=False)

    def generate(self, _query: dict[str, str]) -> None:
        """The native endpoint, without streaming."""
        body = json.loads(self.body)
        sampling = body.get("sampling_params") or {}
        ask = Ask(
            prompt=body.get("text") or "",
            max_tokens=sampling.get("max_new_tokens", 128),
            min_tokens=sampling.get("min_new_tokens", 0),
            ignore_eos=bool(sampling.get("ignore_eos")),
            model=None,
            is_stream=False,
            wants_usage=True,
        )
        try:
            self.admit(ask)
            answer = self.serving.begin(ask)
            text = "".join(self.serving.tokens(answer, self.is_gone))
        except RejectedError as error:
            self.answer(error.status, {"error": {"message": str(error)}})
            return
        reason = {"type": answer.finish_reason, "length": answer.made}
        meta = {"finish_reason": reason, "prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.made}
        self.answer(200, {"text": text, "meta_info": {**meta, "cached_tokens": answer.cached_tokens}})

    def rejected(self, status: int, words: str) -> Any:
        """entrypoints/openai/serving_base.py:119, protocol.py:106."""
        kind = "BadRequest" if status == 400 else str(status)
        return {"object": "error", "message": words, "type": kind, "param": None, "code": status}

    def rejected_in_stream(self, status: int, words: str) -> Any:
        """serving_base.py:223."""
        kind = "SERVICE_UNAVAILABLE" if status == 503 else "INTERNAL_SERVER_ERROR"
        return {"error": {**self.rejected(status, words), "type": kind}}

    def admit(self, ask: Ask) -> None:
        """A full queue is told in the stream, with status 200: tokenizer_manager.py:1917, serving_chat.py:2568."""
        if not self.serving.refuses(self.resolved.args.get("max_queued_requests")):
            return
        if not ask.is_stream:
            raise RejectedError(503, "The request queue is full.")
        self.open_stream()
        self.event(self.rejected_in_stream(503, "The request queue is full."))
        self.close_stream()
        raise BrokenPipeError  # nothing more to say

    def chunks(self, answer: Answer, texts: Iterator[str], head: dict[str, Any], *, is_chat: bool) -> Iterator[Any]:
        """The finish reason comes in a chunk of its own."""

        def chunk(reason: str | None = None, text: str | None = None, **delta: str) -> dict[str, Any]:
            said: dict[str, Any] = {"delta": delta} if is_chat else {"text": text or ""}
            return {**head, "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": reason}]}

        for number, text in enumerate(texts):
            if number == 0 and is_chat:
                yield chunk(role="assistant", content="")
            yield chunk(content=text) if is_chat else chunk(text=text)
        yield chunk(reason=answer.finish_reason)

    def usage(self, answer: Answer) -> dict[str, Any]:
        """Cached tokens with --enable-cache-report alone."""
        told = {"cached_tokens": answer.cached_tokens} if self.resolved.args["enable_cache_report"] else None
        total = answer.prompt_tokens + answer.made
        counts = {"prompt_tokens": answer.prompt_tokens, "total_tokens": total, "completion_tokens": answer.made}
        return {**counts, "prompt_tokens_details": told, "reasoning_tokens": 0}

    def route(self, line: str) -> Route | None:
        return {
            "GET /health": self.health,
            "GET /health_generate": self.health,
            "GET /v1/models": self.models,
            "GET /model_info": self.model_info,
            "GET /get_model_info": self.model_info,
            "GET /server_info": self.server_info,
            "GET /get_server_info": self.server_info,
            "GET /metrics": self.metrics,
            "GET /flush_cache": self.flush,
            "POST /flush_cache": self.flush,
            "POST /v1/chat/completions": self.chat,
            "POST /v1/completions": self.completions,
            "POST /generate": self.generate,
        }.get(line)


def main(argv: Sequence[str]) -> NoReturn:
    """Start, serve, end."""
    fault = faults.from_environment()
    version = command_line.version("sglang")
    args = vars(command_line.sglang(argv, version))
    loaded = model.load(args["model_path"])
    try:
        resolved = resolve(args, loaded, gpu.from_environment())
    except RefusedError as error:
        _refuse(error)
    for warning in resolved.warnings:
        log.sglang(warning)
    log.sglang(f"server_args=ServerArgs({', '.join(f'{name}={item!r}' for name, item in resolved.args.items())})")
    ranks = _start_ranks(resolved.args["tp_size"], log.OOM if "oom" in fault.name else log.DEAD)
    SglangDoor.resolved, SglangDoor.version = resolved, version
    SglangDoor.serving = Serving(resolved.knobs(), loaded, fault, lambda _name: ranks.tell_one_to_die())
    SglangDoor.keys = (args["api_key"],) if args["api_key"] else ()
    _serve(fault, ranks, args["host"], args["port"])


def _refuse(error: RefusedError) -> NoReturn:
    """An assertion of the launcher is a traceback; one of a scheduler ends as every death of a scheduler does."""
    words = f"{error.kind}: {error}"
    if not error.by_rank:
        log.say(log.traceback("sglang", words))
        sys.exit(1)
    _wait_for_death(_start_ranks(1, words))


def _start_ranks(count: int, last_words: str) -> Ranks:
    """managers/scheduler.py:6371: a scheduler that fails says so and sends SIGQUIT to the launcher."""

    def dies(name: str) -> None:
        log.sglang(f"Scheduler hit an exception: {log.traceback('sglang', last_words)}\n", name)
        os.kill(os.getppid(), signal.SIGQUIT)

    ranks = Ranks([f"TP{number}" for number in range(count)], dies)

    def received(*_: object) -> None:
        """entrypoints/engine.py:1976: kill_process_tree(os.getpid())."""
        log.sglang("Received sigquit from a child process. It usually means the child failed.")
        ranks.kill()
        os.kill(os.getpid(), signal.SIGKILL)

    signal.signal(signal.SIGQUIT, received)
    return ranks


def _wait_for_death(ranks: Ranks) -> NoReturn:
    log.sglang("Load weight begin. avail mem=78.44 GB", "TP0")
    ranks.tell_one_to_die()
    while True:
        time.sleep(0.1)  # pause() would sleep through a signal that came just before it


def _serve(fault: Fault, ranks: Ranks, host: str, port: int) -> NoReturn:
    """The port is bound when the model is loaded; until the warm-up is over, health says 503."""
    if fault.name == "oom_at_load":
        _wait_for_death(ranks)
    while fault.name == "hang_at_start":
        time.sleep(0.1)
    server = Server(host, port, SglangDoor)
    server.bind_or_exit(log.say)
    server.server_activate()
    _stop_when_told(fault, ranks)
    warm = threading.Timer(fault.number("slow_start") or 0, _is_ready)
    warm.daemon = True
    warm.start()
    server.serve_forever(0.05)
    raise AssertionError  # the end is os._exit


def _is_ready() -> None:
    SglangDoor.is_starting = False
    log.sglang(READY)


def _stop_when_told(fault: Fault, ranks: Ranks) -> None:
    """managers/tokenizer_manager.py:3508, without its looking only every five seconds."""

    def leave() -> None:
        time.sleep(fault.number("slow_stop") or 0)
        while not SglangDoor.serving.is_idle:
            time.sleep(0.02)
        ranks.kill()
        os._exit(0)

    def told(number: int, _frame: object) -> None:
        log.sglang(f"SIGTERM received. signum={number}. Draining requests and shutting down...")
        SglangDoor.is_leaving = True
        threading.Thread(target=leave, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN if fault.name == "ignores_term" else told)
