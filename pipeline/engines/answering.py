"""Asks a running engine for a greedy answer, and for what it expects at each place of a text.

Answers come from OpenAI's chat endpoint, as the measured requests do. What an engine expects of a given text is told
in a way of its own (`runtime.reads`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import requests

from pipeline.core.answers import Answer, Reading
from pipeline.core.schema_quality import Reads
from pipeline.core.values import value, whole
from pipeline.engines import http

FAR = 99.0  # nats, of a second token that the engine does not tell: it has a probability of none
DIGITS = 4  # of what is kept
REFUSED = (400, 422)  # HTTP codes for fields that a server does not know
LONGEST = 120  # characters of an error that are kept


@value
class Engine:
    """Where an engine is, what requests call its model, and how it tells what it expects of a text."""

    url: str
    model: str
    reads: Reads = "none"


def ask(engine: Engine, question: str, text: str, *, max_tokens: int, timeout_s: float) -> Answer:
    """The answer, with log-probabilities where the engine tells them.

    Raises:
        requests.RequestException: there is none.
        Exception: of any kind, for one of another shape.
    """
    body: dict[str, Any] = {
        "model": engine.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "temperature": 0,
    }
    with http.session() as session:
        path = f"{engine.url}/v1/chat/completions"
        answer = session.post(path, json={**body, "logprobs": True, "top_logprobs": 2}, timeout=timeout_s)
        if answer.status_code in REFUSED:  # a server without log-probabilities
            answer = session.post(path, json=body, timeout=timeout_s)
        return read_answer(question, _checked(answer))


def read_answer(question: str, told: Any) -> Answer:
    """The first choice of an answer of OpenAI's chat endpoint; a model that thinks first has told its thoughts."""
    choice = told["choices"][0]
    message = choice["message"]
    thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
    items = (choice.get("logprobs") or {}).get("content") or []
    return Answer(
        question=question,
        text=f"{thoughts}{message.get('content') or ''}",
        tokens=tuple(str(item["token"]) for item in items),
        logprobs=tuple(_rounded(item["logprob"]) for item in items),
        gaps=tuple(_gap([top["logprob"] for top in item.get("top_logprobs", [])]) for item in items),
    )


def expect(engine: Engine, passage: str, text: str, *, timeout_s: float) -> Reading:
    """What the engine expects at each place of the text, where `engine.reads` says how it tells.

    Raises:
        requests.RequestException: it did not answer.
        Exception: of any kind, for an answer of another shape.
    """
    way = _WAYS[engine.reads]
    with http.session() as session:
        answer = session.post(f"{engine.url}{way.path}", json=way.body(engine.model, text), timeout=timeout_s)
        return reading(passage, way.places(_checked(answer)))


class Place(tuple[float, list[tuple[float, str]]]):
    """The log-probability of the token that is there; the likeliest ones with theirs, best first."""

    __slots__ = ()


class Way(Protocol):
    """How an engine is asked."""

    path: str

    def body(self, model: str, text: str) -> Mapping[str, Any]:
        """The request."""

    def places(self, told: Any) -> list[Place]:
        """Of the answer: the places of the text but the first."""


class Vllm:
    """vLLM's prompt_logprobs: {token id: {logprob, rank, decoded_token}} for each token of the prompt, None first.

    Source: vllm 0.32.0, entrypoints/openai/completion/protocol.py (prompt_logprobs), logprobs.py (Logprob).
    """

    path = "/v1/completions"

    def body(self, model: str, text: str) -> Mapping[str, Any]:
        """The prompt's two best tokens, and its own beside them."""
        return {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 2}

    def places(self, told: Any) -> list[Place]:
        """The token itself comes first: vllm/v1/engine/logprobs.py puts it in front of the best ones."""
        found = []
        for place in told["choices"][0]["prompt_logprobs"][1:]:
            own = next(iter(place.values()))["logprob"]
            best = sorted(((item["logprob"], token) for token, item in place.items()), reverse=True)
            found.append(Place((own, best)))
        return found


class Sglang:
    """SGLang's native /generate: (log-probability, token id, text) for each token of the prompt.

    Source: sglang 0.5.23, srt/managers/io_struct.py (return_logprob, logprob_start_len, top_logprobs_num).
    """

    path = "/generate"

    def body(self, model: str, text: str) -> Mapping[str, Any]:
        """From the first token on."""
        return {
            "text": text,
            "sampling_params": {"max_new_tokens": 1, "temperature": 0},
            "return_logprob": True,
            "logprob_start_len": 0,
            "top_logprobs_num": 2,
        }

    def places(self, told: Any) -> list[Place]:
        """The first token has nothing before it, and no log-probability."""
        meta = told["meta_info"]
        both = zip(meta["input_token_logprobs"], meta["input_top_logprobs"], strict=True)
        return [Place((own[0], [(one[0], str(one[1])) for one in tops])) for own, tops in both if own[0] is not None]


_WAYS: Mapping[str, Way] = {"vllm": Vllm(), "sglang": Sglang()}


def reading(passage: str, places: Sequence[Place]) -> Reading:
    """The places as a value."""
    return Reading(
        passage=passage,
        tops=tuple(tops[0][1] for _, tops in places),
        logprobs=tuple(_rounded(tops[0][0]) for _, tops in places),
        gaps=tuple(_gap([each for each, _ in tops]) for _, tops in places),
        own=tuple(_rounded(own) for own, _ in places),
    )


def _checked(answer: requests.Response) -> Any:
    if answer.status_code != requests.codes.ok:
        raise requests.HTTPError(f"HTTP {answer.status_code}: {answer.text[:LONGEST]}", response=answer)
    return json.loads(whole(json.dumps(answer.json(), ensure_ascii=False)))


def _rounded(logprob: float | None) -> float:
    """JSON has no infinity, and llama.cpp writes null for what is no number: logits of broken weights."""
    return -FAR if logprob is None or math.isnan(logprob) else round(max(float(logprob), -FAR), DIGITS)


def _gap(logprobs: Sequence[float | None]) -> float:
    best = sorted(map(_rounded, logprobs), reverse=True)
    return round(best[0] - best[1], DIGITS) if len(best) > 1 else FAR
