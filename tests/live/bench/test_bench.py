"""The resident genai-bench against the plain command: same requests, same numbers, same files, no secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fakes.stub_chat import Chat, chatting
from parts.llama import Server, serving
from pipeline import bench
from pipeline.bench import Outcome, command, results
from pipeline.bench.cli import Cli
from pipeline.bench.resident import Resident
from pipeline.core import metrics
from pipeline.engines import http
from support.measuring import Make, Planned, measure, message, result, run

pytestmark = pytest.mark.live

KEY = "sk-test-do-not-write-me-down"


def keys(data: Any) -> Any:
    """The shape of a result: its keys, all the way down; lists by their first item."""
    if isinstance(data, dict):
        return {key: keys(item) for key, item in data.items()}
    return [keys(data[0])] if isinstance(data, list) and data else None


class Pair(NamedTuple):
    """The same level measured by both runners."""

    levels: dict[str, Planned]
    outcomes: dict[str, Outcome]
    data: dict[str, Any]


@pytest.fixture(scope="module")
def measured() -> dict[str, Pair]:
    return {}


@pytest.fixture
def pair(measured: dict[str, Pair], server: Server, make: Make, resident: Resident) -> Pair:
    """Measured by the first test that asks: one plain call takes half a minute."""
    if not measured:
        runners: dict[str, bench.Runner] = {"resident": resident, "cli": Cli(bench.installed_program())}
        levels = {name: make(server.url, name) for name in runners}
        outcomes = {name: run(runner, levels[name].job) for name, runner in runners.items()}
        data = {name: result(level.job) for name, level in levels.items()}
        measured["pair"] = Pair(levels, outcomes, data)
    return measured["pair"]


def test_both_runners_are_given_the_same_command(pair: Pair) -> None:
    resident, plain = (
        [word.replace("/cli/", "/resident/") for word in level.job.argv] for level in pair.levels.values()
    )
    assert resident == plain


def test_both_runners_end_well(pair: Pair) -> None:
    assert [(outcome.exit_code, outcome.error) for outcome in pair.outcomes.values()] == [(0, None), (0, None)]


def test_both_runners_write_the_same_keys(pair: Pair) -> None:
    assert keys(pair.data["resident"]) == keys(pair.data["cli"])


@pytest.mark.parametrize("runner", ["resident", "cli"])
def test_a_runner_measures_what_was_asked_for(pair: Pair, runner: str) -> None:
    requests = pair.data[runner]["individual_request_metrics"]
    assert len(requests) >= 8
    assert {request["num_output_tokens"] for request in requests} == {16}
    assert all(48 <= request["num_input_tokens"] <= 72 for request in requests)  # the chat template's on top
    level = pair.levels[runner]
    read = results.read(results.result_file(level.job.folder))
    seen = metrics.measure(read, level.config.slo, output_tokens_asked=16)
    assert (seen.num_requests, seen.error_rate, seen.is_usable) == (len(requests), 0, True)


@pytest.mark.parametrize("runner", ["resident", "cli"])
def test_both_runners_tell_seconds_that_add_up(pair: Pair, runner: str) -> None:
    """How long an answer took depends on what else the machine does: that the parts make the whole does not."""
    for request in pair.data[runner]["individual_request_metrics"]:
        assert request["e2e_latency"] == pytest.approx(request["ttft"] + request["output_latency"])
        assert 0 < request["ttft"] <= request["e2e_latency"] < pair.outcomes[runner].elapsed_s


def test_the_resident_runner_makes_no_plots_and_no_sheet(pair: Pair) -> None:
    names = sorted(path.name for path in pair.levels["resident"].job.folder.rglob("*"))
    assert [name for name in names if not name.startswith("D48_16")] == [
        "console.log",
        "experiment_metadata.json",
        "genai_bench.log",
        "requests.jsonl",
    ]
    assert len(names) == 5


def test_a_plain_call_makes_them(pair: Pair) -> None:
    """Should this fail, genai-bench has changed: look at what driver.py replaces."""
    suffixes = {path.suffix for path in pair.levels["cli"].job.folder.rglob("*")}
    assert {".png", ".xlsx"} <= suffixes


@pytest.fixture
def chat() -> Iterator[Chat]:
    with chatting() as running:
        yield running


def prompts_of(runner: Resident, chat: Chat, level: Planned) -> list[str]:
    chat.prompts.clear()
    assert run(runner, level.job).error is None
    return chat.prompts[: level.plan.levels[0].max_requests]


def test_a_seed_names_the_prompts(resident: Resident, chat: Chat, make: Make) -> None:
    first, again, other = (
        prompts_of(resident, chat, make(chat.url, name, seed=seed)) for name, seed in [("a", 5), ("b", 5), ("c", 6)]
    )
    assert len(set(first)) == 8
    assert first == again
    assert not set(first) & set(other)


def test_several_processes_make_one_result_of_genai_benchs_kind(resident: Resident, chat: Chat, make: Make) -> None:
    """The same prompts as one process sends."""
    alone = prompts_of(resident, chat, make(chat.url, "alone", users=3))
    level = make(chat.url, users=3, workers=2)
    assert sorted(prompts_of(resident, chat, level)) == sorted(alone)
    data = result(level.job)
    assert (len(data["individual_request_metrics"]), data["aggregated_metrics"]["num_completed_requests"]) == (8, 8)
    seen, _ = results.of(level.job.folder, level.plan.levels[0])
    assert seen.client is not None
    assert (seen.client.workers, len(seen.requests)) == (2, 8)


def test_a_key_reaches_the_server_and_no_file(
    resident: Resident,
    make: Make,
    tiny_gguf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(http.API_KEY_ENV, KEY)
    seen_in: set[str] = set()

    def look() -> None:
        seen_in.update(line for line in command_lines() if KEY in line)

    with serving(tiny_gguf, tmp_path, key=KEY) as server:
        level = make(server.url)
        outcome = resident.run(level.job, look)
        assert outcome.error is None, (level.job.folder / command.CONSOLE).read_text()
        assert {item["error_code"] for item in result(level.job)["individual_request_metrics"]} == {None}
    assert seen_in == set()
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert holders == []


def test_without_the_key_a_protected_server_refuses(
    resident: Resident, make: Make, tiny_gguf: Path, tmp_path: Path
) -> None:
    with serving(tiny_gguf, tmp_path, key=KEY) as server:
        seen = measure(resident, make(server.url), server.url)
    assert "requests answered: HTTP 401" in message(seen)


def command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_text(errors="replace")
        except OSError:
            continue
