"""The user's own prompts and shared prefixes, through the real genai-bench."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.stub_chat import Chat, chatting
from pipeline.bench import Chosen, Job, chosen, ledger
from pipeline.bench.resident import Resident
from support.measuring import Make, run
from support.places import TESTS

pytestmark = pytest.mark.live

PROMPTS = TESTS / "fakes" / "prompts" / "chat.jsonl"
Level = Callable[..., Job]


@pytest.fixture
def chat() -> Iterator[Chat]:
    with chatting() as running:
        yield running


@pytest.fixture
def level(make: Make, chat: Chat) -> Level:
    """A level of eight requests with a traffic of its own."""

    def go(name: str, scenario: str = "D(48,16)", **changes: Any) -> Job:
        planned = make(chat.url, name, scenario=scenario)
        traffic = replace(planned.config.traffic, **changes)
        return replace(planned.job, chosen=chosen.of(traffic, planned.plan.levels[0]))

    return go


def sent(runner: Resident, chat: Chat, job: Job) -> list[dict[str, Any]]:
    """The bodies of the requests that a call sends."""
    chat.bodies.clear()
    outcome = run(runner, job)
    assert outcome.error is None
    return chat.bodies[: job.max_requests]


def test_own_prompts_are_sent_as_they_are(resident: Resident, chat: Chat, level: Level) -> None:
    job = level("own", path=PROMPTS, scenarios=("dataset",))
    assert isinstance(job.chosen, Chosen)
    bodies = sent(resident, chat, job)
    assert [body["messages"] for body in bodies] == [
        [{"role": role, "content": text} for role, text in ask.messages] for ask in job.chosen.asks
    ]
    assert [message["role"] for message in bodies[0]["messages"]] == ["system", "user"]
    assert all(body["max_tokens"] > 5 and not body["ignore_eos"] for body in bodies)
    seen = ledger.read(job.folder / ledger.NAME)
    assert seen is not None
    assert [one.asked_tokens for one in seen.requests] == [body["max_tokens"] for body in bodies]
    console = (job.folder / "console.log").read_text()
    assert "You are a poet" not in console + (job.folder / ledger.NAME).read_text()  # prompts stay out of our files


def test_drawn_prompts_begin_with_one_of_the_prefixes(resident: Resident, chat: Chat, level: Level) -> None:
    bodies = sent(resident, chat, level("shared", prefix_tokens=32, prefixes=2))
    texts = sorted(body["messages"][0]["content"] for body in bodies)
    one, other = texts[:4], texts[4:]
    assert one[0][:40] == one[-1][:40] != other[0][:40] == other[-1][:40]
    assert len(set(texts)) == 8
    assert all(body["ignore_eos"] for body in bodies)


def test_what_warms_the_cache_is_sent_before_the_level_and_is_not_measured(
    resident: Resident, chat: Chat, level: Level
) -> None:
    job = level("warm", prefix_tokens=32, prefixes=2)
    chat.bodies.clear()
    assert run(resident, chosen.warming(job, 60.0)).error is None
    warming = [(body["messages"][0]["content"].strip(), body["max_tokens"]) for body in chat.bodies]
    assert (len(warming), {tokens for _, tokens in warming}) == (2, {1})
    texts = [body["messages"][0]["content"] for body in sent(resident, chat, job)]
    assert all(sum(text.startswith(prefix[:-8]) for text in texts) == 4 for prefix, _ in warming)
    seen = ledger.read(job.folder / ledger.NAME)
    assert seen is not None
    assert len(seen.requests) == job.max_requests


def test_a_cache_that_cannot_be_warmed_says_why(resident: Resident, chat: Chat, level: Level) -> None:
    chat.mood = "refuse"
    job = chosen.warming(level("cold", prefix_tokens=32), 60.0)
    told = run(resident, job).error
    assert told is not None
    assert "the prefix cache could not be warmed: HTTP 503" in told
    assert "no room" in told


def test_prompts_of_a_trial_are_the_same_in_the_next_one(resident: Resident, chat: Chat, level: Level) -> None:
    first, again = (sent(resident, chat, level(name, prefix_tokens=32, prefixes=2)) for name in ("a", "b"))
    assert [body["messages"] for body in first] == [body["messages"] for body in again]


def test_the_file_is_read_again_only_where_it_has_changed(level: Level, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(PROMPTS.read_text())
    before = level("c", path=path, scenarios=("dataset",)).chosen
    path.write_text("".join(reversed(PROMPTS.read_text().splitlines(keepends=True))))
    after = level("d", path=path, scenarios=("dataset",)).chosen
    assert before != after
