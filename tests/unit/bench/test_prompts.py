"""The prompts of a level are made before it begins, and are those that genai-bench would have made."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.bench import prompts


class Sampler:
    """genai-bench's, as far as it is touched: numbered prompts, and a tokenizer that says what it was asked."""

    def __init__(self) -> None:
        self.data = ["a line", "another"]
        self.asked: list[str] = []
        self.tokenizer = SimpleNamespace(encode=self.encode)
        self.numbers = count()

    def sample(self, scenario: str) -> str:
        return f"{scenario} {next(self.numbers)}"

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        self.asked.append(text)
        return [*map(ord, text), *([0] if add_special_tokens else [])]


class Distributed:
    """genai-bench's DistributedRunner, as far as it is touched."""

    def __init__(self, sampler: Sampler) -> None:
        self.environment = SimpleNamespace(sampler=sampler, scenario="")

    def update_scenario(self, scenario: str) -> None:
        self.environment.scenario = scenario


def test_all_prompts_are_there_before_the_first_request() -> None:
    sampler = Sampler()
    bench: Any = SimpleNamespace(DistributedRunner=type("Runner", (Distributed,), {}))
    prompts.install(bench, {"max_requests": 3, "users": 1})
    runner = bench.DistributedRunner(sampler)
    runner.update_scenario("D(1,1)")
    assert runner.environment.prompts_ahead == 3
    assert next(sampler.numbers) == 3
    given = [sampler.sample("") for _ in range(5)]
    assert given == ["D(1,1) 0", "D(1,1) 1", "D(1,1) 2", "D(1,1) 4", "D(1,1) 5"]  # the test itself took number 3


@pytest.mark.parametrize(
    ("planned", "users", "made"),
    [(7, 1, 7), (10**9, 1, prompts.MOST_AHEAD), (10**9, 1000, 1000 * prompts.MOST_EACH), (3000, 1000, 3000)],
)
def test_no_more_are_made_than_a_level_may_send(planned: int, users: int, made: int) -> None:
    assert prompts.enough({"max_requests": planned, "users": users}) == made


def test_a_level_does_not_wait_for_them_for_ever() -> None:
    times = count(0, prompts.AHEAD_S / 4)
    assert [*prompts.ahead(lambda: "x", 1000, clock=lambda: next(times))] == ["x"] * 3


def test_they_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "MOST_LETTERS", 10)
    long = SimpleNamespace(prompt="four")
    assert [*prompts.ahead(lambda: long, 1000, clock=lambda: 0.0)] == [long] * 3


def test_a_line_is_tokenized_once() -> None:
    sampler = Sampler()
    prompts.remember_lines(sampler)
    encode = sampler.tokenizer.encode
    seen = [encode("a line", add_special_tokens=False) for _ in range(3)]
    assert seen == [[*map(ord, "a line")]] * 3
    assert encode("a line") == [*map(ord, "a line"), 0]
    assert encode("new") == encode("new") == [*map(ord, "new"), 0]
    assert sampler.asked == ["a line", "a line", "new", "new"]
