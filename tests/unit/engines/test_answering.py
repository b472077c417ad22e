"""Answers and readings, from what engines send."""

from typing import Any

import pytest
import requests

from fakes.answering import answering
from pipeline.engines import questions
from pipeline.engines.answering import FAR, Engine, Sglang, Vllm, ask, expect, read_answer, reading

LLAMA_CPP: dict[str, Any] = {  # llama.cpp b11549, cut
    "choices": [
        {
            "finish_reason": "length",
            "index": 0,
            "message": {"role": "assistant", "content": "What is"},
            "logprobs": {
                "content": [
                    {
                        "id": 3689, "token": "What", "bytes": [87, 104, 97, 116], "logprob": -0.7635161280632019,
                        "top_logprobs": [
                            {"id": 3689, "token": "What", "logprob": -0.7635161280632019},
                            {"id": 236820, "token": "<", "logprob": -2.4247138500213623},
                        ],
                    },
                    {"id": 563, "token": " is", "logprob": None, "top_logprobs": [{"token": " is", "logprob": None}]},
                ]
            },
        }
    ]
}  # fmt: skip


def test_an_answer_has_tokens_log_probabilities_and_gaps() -> None:
    found = read_answer("capital", LLAMA_CPP)
    assert (found.question, found.text, found.tokens) == ("capital", "What is", ("What", " is"))
    assert found.logprobs == (-0.7635, -FAR)  # llama.cpp writes null for what is no number
    assert found.gaps == (1.6612, FAR)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_are_part_of_an_answer(field: str) -> None:
    found = read_answer("q", {"choices": [{"message": {field: "hm ", "content": None}, "logprobs": None}]})
    assert (found.text, found.tokens, found.spelled) == ("hm ", (), ("hm",))


def test_vllm_tells_the_token_of_the_text_first() -> None:
    own = {"logprob": -4.0, "rank": 9, "decoded_token": "a"}
    best, second = {"logprob": -0.5, "rank": 1, "decoded_token": "b"}, {"logprob": -1.25, "rank": 2}
    told = {"choices": [{"prompt_logprobs": [None, {"7": own, "3": best, "5": second}, {"3": best, "5": second}]}]}
    found = reading("p", Vllm().places(told))
    assert (found.tops, found.logprobs, found.gaps, found.own) == (("3", "3"), (-0.5, -0.5), (0.75, 0.75), (-4.0, -0.5))


def test_sglang_tells_nothing_of_the_first_token() -> None:
    meta = {
        "input_token_logprobs": [[None, 1, None], [-4.0, 7, None]],
        "input_top_logprobs": [None, [[-0.5, 3, None], [-1.25, 5, None]]],
    }
    found = reading("p", Sglang().places({"meta_info": meta}))
    assert (found.tops, found.logprobs, found.gaps, found.own) == (("3",), (-0.5,), (0.75,), (-4.0,))


def test_a_server_without_log_probabilities_is_asked_without() -> None:
    with answering("no logprobs") as server:
        found = ask(Engine(url=server.url, model="m"), "capital", "What is it?", max_tokens=4, timeout_s=30)
        bodies = server.bodies
    assert (len(found.text.split()), found.tokens) == (4, ())
    assert ["logprobs" in body for body in bodies] == [True, False]


def test_a_refusal_has_the_servers_words() -> None:
    with answering("errors") as server, pytest.raises(requests.HTTPError, match=r"HTTP 500.*the kernel is gone"):
        ask(Engine(url=server.url, model="m"), "capital", "What is it?", max_tokens=4, timeout_s=30)


def test_a_text_is_read_place_by_place() -> None:
    with answering() as server:
        found = expect(Engine(url=server.url, model="m", reads="vllm"), "p", "one two three", timeout_s=30)
    assert len(found.tops) == 2


def test_the_set_has_enough_questions_and_passages() -> None:
    found = questions.load()
    assert (len(found.questions), len(found.passages)) == (12, 6)
    assert not {*found.questions} & {*found.passages}
