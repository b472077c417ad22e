"""Measures a level in place of genai-bench's own users and clock, and hands genai-bench the result.

Runs in the forked child of driver.py. genai-bench makes the prompts and payloads, and writes its result file. Its users
are not used, because they make prompts, open connections and parse answers while the others' clocks run, and because a
request vanishes from every count where their parser raises.
"""

import importlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.bench import workers
from pipeline.bench.connection import server
from pipeline.bench.wire import Prepared, get, prepare
from pipeline.bench.workers import Level, Means, Prompts

TOKEN_S = 0.02  # per token, with which workers.USERS_EACH was found
APART_S = 1e-6  # genai-bench divides by the time after the first token


def install(bench: Any, command: Mapping[str, Any]) -> None:
    """Take the place of genai-bench's users and of its clock, in this process."""
    setup = bench.DistributedRunner.setup

    def set_up(self: Any) -> None:
        setup(self)
        self.environment.runner.start = self.environment.runner.stop = _nothing
        bench.manage_run_time = partial(manage, command, self.metrics_collector)

    bench.DistributedRunner.setup = set_up


def manage(command: Mapping[str, Any], collector: Any, environment: Any, **_whole_minutes: int) -> int:
    """genai-bench's `manage_run_time` (cli/utils.py): measure, and fill its collector. The seconds that it took."""
    user = environment.user_classes[0](environment)
    draft = drafter(user)
    prompts = Prompts([draft() for _ in range(environment.prompts_ahead)], draft)
    file = os.open(command["ledger"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    key = command.get("api_key") or None
    users = 0 if command.get("times") else command["users"]

    def write(line: str) -> None:
        os.write(file, (line.replace(key, "***") if key else line).encode())

    names = ("times", "rate", "max_in_flight")
    paced = {name: command[name] for name in names} if command.get("times") else {}
    level = Level(command["max_requests"], users, command["max_time_s"], command["drain_s"], write, **paced)
    count = environment.sampler.get_token_length
    question = get(f"{user.host}/v1/models", user.headers)
    means = Means(prompts, partial(server, user.host), lambda text: int(count(text)), question)
    workers.run(level, command.get("workers") or workers.enough(users or _as_many(level, prompts)), means)
    os.close(file)
    duration_s = collect(Path(command["ledger"]), collector)
    return max(1, int(duration_s))


def _as_many(level: Level, prompts: Prompts) -> float:
    """So many users as would ask for tokens as fast as an open loop does: what a worker can do is told in users."""
    asked = [one.asked for one in prompts.made if one.asked]
    return (level.rate or 0) * (sum(asked) / max(1, len(asked))) * TOKEN_S


def drafter(user: Any) -> Callable[[], Prepared]:
    """What makes a request: genai-bench's user (user/openai_user.py), which thinks that it sends it."""
    user.on_start()
    drafts: list[Prepared] = []

    def send_request(_stream: bool, endpoint: str, payload: Any, _parse: Any, tokens: int | None = None) -> None:
        drafts.append(prepare(f"{user.host}{endpoint}", user.headers, payload, tokens))

    user.send_request = send_request

    def draft() -> Prepared:
        user.chat()
        return drafts.pop()

    return draft


def collect(path: Path, collector: Any) -> float:
    """Tell genai-bench's collector what the ledger says; how long the level took, in seconds."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    begun = {line["begin"]: line for line in lines if "begin" in line}
    collector._update_live_metrics = _nothing  # noqa: SLF001 - for a screen that nobody sees
    for line in lines:
        if line.get("how") == "answered":
            with suppress(Exception):  # its own file is for its own tools; ours is written
                collector.add_single_request_metrics(_answered(begun[line["end"]], line))
        elif "end" in line and line["how"] not in ("open", "stopped"):
            collector.add_single_request_metrics(_failed())
    duration_s = float(lines[-1]["duration_s"])
    aggregate = collector.aggregate_metrics_data
    collector.aggregate_metrics_data = lambda _start, _end, *ratios: aggregate(0.0, duration_s, *ratios)
    return duration_s


def _answered(begin: Mapping[str, Any], end: Mapping[str, Any]) -> Any:
    """The request in genai-bench's words."""
    from genai_bench.protocol import UserChatResponse

    maker = _maker()
    maker.calculate_metrics(
        UserChatResponse(
            status_code=200,
            generated_text="",
            tokens_received=end["output_tokens"] or end["pieces"],
            num_prefill_tokens=begin["prompt_tokens"] if end["input_tokens"] is None else end["input_tokens"],
            start_time=begin["at_s"],
            time_at_first_token=begin["at_s"] + end["ttft_s"],
            end_time=begin["at_s"] + max(end["e2e_s"], end["ttft_s"] + APART_S),
        )
    )
    return maker.metrics


def _failed() -> Any:
    metrics = _maker().metrics
    metrics.error_code, metrics.error_message = 500, "see requests.jsonl"
    return metrics


def _maker() -> Any:
    return importlib.import_module("genai_bench.metrics.request_metrics_collector").RequestMetricsCollector()


def _nothing(*_args: object, **_kwargs: object) -> None:
    return
