"""How a level's prompts are chosen beyond genai-bench's own way, with a tokenizer of words in place of its sampler."""

import random
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pipeline.bench import Chosen, choosing
from pipeline.core.values import plain

SEED = 7


class Words:
    """A tokenizer of which every word is a token."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        for word in text.split():
            if word not in self.words:
                self.words.append(word)
        return [self.words.index(word) for word in text.split()]

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(f"{self.words[each]} " for each in ids)


@dataclass
class Sampler:
    """As much of genai-bench's as is used."""

    tokenizer: Words = field(default_factory=Words)
    model: str = "tiny"
    additional_request_params: dict[str, Any] = field(default_factory=dict)

    def get_token_length(self, text: str) -> int:
        return len(text.split())

    def _generate_text_from_dataset(self, tokens: int, rng: Any = random) -> str:
        return " ".join(f"w{rng.randrange(1000)}" for _ in range(tokens))


@pytest.fixture(autouse=True)
def protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one class of genai-bench that is made: importing the real one takes ten seconds."""
    module = ModuleType("genai_bench.protocol")
    module.UserChatRequest = SimpleNamespace  # type: ignore[attr-defined]
    package = ModuleType("genai_bench")
    monkeypatch.setitem(sys.modules, "genai_bench", package)
    monkeypatch.setitem(sys.modules, "genai_bench.protocol", module)
    random.seed(SEED)


def chosen(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = plain(Chosen(**changes))
    return made


def drawn(sizes: list[tuple[int, int]], count: int, **changes: Any) -> list[Any]:
    """Requests of a scenario that draws these sizes in turn."""
    make = choosing.alike(Sampler(), chosen(**changes), SEED)
    sampled = iter(sizes * count)
    return [make(SimpleNamespace(sample=lambda: next(sampled))) for _ in range(count)]


def test_prompts_have_the_tokens_asked_for_and_begin_alike() -> None:
    requests = drawn([(20, 5)], 6, prefix_tokens=15, longest_prefix=15)
    prompts = [one.prompt.split() for one in requests]
    assert [(len(words), one.max_tokens) for words, one in zip(prompts, requests, strict=True)] == [(20, 5)] * 6
    assert len({tuple(words[:15]) for words in prompts}) == 1
    assert len({words[15] for words in prompts}) == 6  # what follows the prefix is never shared
    assert all(one.additional_request_params["ignore_eos"] for one in requests)


def test_several_prefixes_are_used_equally_often() -> None:
    requests = drawn([(10, 5)], 12, prefix_tokens=8, longest_prefix=8, prefixes=4)
    begun = [tuple(one.prompt.split()[:8]) for one in requests]
    assert sorted(begun.count(each) for each in set(begun)) == [3, 3, 3, 3]
    assert all(len(set(begun[at : at + 4])) == 4 for at in (0, 4, 8))


def test_prompts_of_different_lengths_share_by_ratio_too() -> None:
    """With genai-bench's own --prefix-ratio only prompts of equal length would."""
    short, long = (one.prompt.split() for one in drawn([(10, 5), (20, 5)], 2, prefix_ratio=0.5, longest_prefix=10))
    assert short[:5] == long[:5]
    assert (len(short), len(long)) == (10, 20)


def test_a_prompt_has_a_token_of_its_own_however_short_it_is_drawn() -> None:
    (one,) = drawn([(3, 5)], 1, prefix_tokens=8, longest_prefix=8)
    assert len(one.prompt.split()) == 9


def test_prefixes_are_named_by_the_seed() -> None:
    sampler, what = Sampler(), chosen(prefix_tokens=8, longest_prefix=8, prefixes=3)
    first, again, other = (choosing.prefixes(sampler, what, seed) for seed in (1, 1, 2))
    assert first == again
    assert not {tuple(each) for each in first} & {tuple(each) for each in other}
    assert len({tuple(each) for each in first}) == 3


ASKS = (
    {"messages": (("system", "Be kind."), ("user", "Hi you")), "answer": "one two three"},
    {"messages": (("user", "And?"),), "answer": 9},
    {"messages": (("user", "Well"),), "answer": ""},
)


def test_own_prompts_come_in_their_order_with_the_length_of_the_recorded_answer() -> None:
    make = choosing.own(Sampler(), chosen(asks=ASKS, ignore_eos=False))
    requests = [make(None) for _ in range(4)]
    assert [one.max_tokens for one in requests] == [3, 9, 1, 3]
    first = requests[0]
    assert (first.prompt, first.num_prefill_tokens) == ("Be kind.\nHi you", 4)
    assert first.additional_request_params["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi you"},
    ]
    assert not any(one.additional_request_params["ignore_eos"] for one in requests)


def test_a_level_that_genai_bench_chooses_for_is_left_alone() -> None:
    choosing.install({"chosen": None})  # would import genai-bench's sampler
    assert "genai_bench.sampling.text" not in sys.modules
