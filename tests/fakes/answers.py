"""What a stand-in engine answers to the quality guard: well, or in each way in which answers are bad. Pure.

Shapes: OpenAI's chat completions with logprobs. Without imports of ours: tests/fakes/stub_engine.py is a program.
"""

import zlib
from typing import Any, Literal

Mood = Literal[
    "well", "undecided", "garbage", "empty", "stuck", "no text", "slightly", "noisy", "no logprobs", "errors",
    "silent", "unsure", "odd", "bare", "half",
]  # fmt: skip
WORDS = ("the", "a", "of", "in", "to", "is", "on", "and", "it", "we", "you", "red", "blue", "tree", "house", "river")
TOKENS = 12
OTHER = " otherwise"
SLIGHT = 8  # one of so many tokens is another one


def number_of(*parts: object) -> int:
    """The same one for the same parts, whatever the process."""
    return zlib.crc32(" ".join(map(str, parts)).encode())


def said(question: str, mood: Mood, number: int) -> list[str]:
    """The tokens of an answer; `number`: of the request."""
    if mood in {"empty", "stuck", "no text"}:
        return {"empty": [], "stuck": ["!"] * TOKENS, "no text": ["�\x00"] * TOKENS}[mood]
    if mood in {"garbage", "unsure"}:
        return [f" {WORDS[seen % len(WORDS)]}{seen % 97}" for seen in (number_of(number, at) for at in range(TOKENS))]
    tokens = [f" {WORDS[number_of(question, at) % len(WORDS)]}" for at in range(TOKENS)]
    is_slight = mood == "slightly" and number_of(question) % 3 == 0
    if is_slight or mood == "undecided" or (mood == "noisy" and number % 5 < 2):
        tokens[-2] = OTHER
    return tokens


def told(token: str, mood: Mood) -> dict[str, Any]:
    """A token with its log-probability, and the second best one."""
    sure = -5.0 if mood == "unsure" else -0.2
    gap = 0.1 if mood == "undecided" else 3.0
    tops = [{"token": token, "logprob": sure}, {"token": " else", "logprob": sure - gap}]
    return {"token": token, "logprob": sure, "top_logprobs": tops}


def expected(text: str, at: int, mood: Mood) -> tuple[str, float]:
    """What is expected at a place of a text, and the log-probability of what is there."""
    best = f"{number_of(text, at) % 1000}"
    if mood == "slightly" and at % SLIGHT == 0:
        best = "1001"
    return (f"{at}", -9.0) if mood in {"garbage", "unsure"} else (best, -2.0)


def chat(body: dict[str, Any], mood: Mood, number: int) -> dict[str, Any]:
    """The answer to a request of a chat; `number`: of the request."""
    tokens = said(body["messages"][0]["content"], mood, number)[: body["max_tokens"]]
    choice: dict[str, Any] = {"message": {"content": "".join(tokens)}, "finish_reason": "length"}
    if "logprobs" in body:
        choice["logprobs"] = {"content": [told(token, mood) for token in tokens]}
    return {"choices": [choice], "usage": {"completion_tokens": len(tokens)}}
