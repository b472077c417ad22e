"""What a row means: the messages to send, and how long the answer was."""

import pytest

from pipeline.prompts import shapes
from pipeline.prompts.shapes import BadRow, LeftOut, Prompt

ASKED = {"role": "user", "content": "Hi"}
SAID = {"role": "assistant", "content": "Hello!"}
HUMAN, GPT = {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}


def made(row: object, prompt_field: str | None = None, output_field: str | None = None) -> Prompt:
    return shapes.prompt(1, row, prompt_field, output_field, needs_answer=True)


def told(prompt: Prompt) -> tuple[list[str], str | int | None]:
    return [f"{each.role}: {each.content}" for each in prompt.messages], prompt.answer


@pytest.mark.parametrize(
    ("row", "messages", "answer"),
    [
        ({"prompt": "Hi", "completion": "Hello!"}, ["user: Hi"], "Hello!"),
        ({"question": "Hi", "output_tokens": 7, "answer": "Hello!"}, ["user: Hi"], 7),
        ({"text": "Hi", "output_tokens": "7"}, ["user: Hi"], 7),
        ({"text": "Hi", "answer": "42"}, ["user: Hi"], "42"),
        ({"turns": ["Hi", "And?"], "output": ["Hello!"]}, ["user: Hi"], "Hello!"),
        ({"messages": [ASKED, SAID]}, ["user: Hi"], "Hello!"),
        ({"messages": [ASKED, SAID, ASKED], "max_tokens": 5}, ["user: Hi", "assistant: Hello!", "user: Hi"], 5),
        (
            {"messages": [{"role": "developer", "content": "Be kind."}, ASKED, SAID]},
            ["developer: Be kind.", "user: Hi"],
            "Hello!",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
                    SAID,
                ]
            },
            ["user: Hi"],
            "Hello!",
        ),
        ({"conversations": [HUMAN, GPT, HUMAN, GPT]}, ["user: Hi"], "Hello!"),
        ({"conversations": [GPT, HUMAN, GPT]}, ["user: Hi"], "Hello!"),
        (
            {"conversations": [{"from": "system", "value": "Be kind."}, HUMAN, GPT]},
            ["system: Be kind.", "user: Hi"],
            "Hello!",
        ),
    ],
)
def test_the_shapes_that_people_have_are_known(row: object, messages: list[str], answer: str | int) -> None:
    assert told(made(row)) == (messages, answer)


def test_fields_can_be_named_and_lie_deeper() -> None:
    row = {"body": {"messages": [ASKED], "max_tokens": 9}, "prompt": "not this"}
    assert told(made(row, "body.messages", "body.max_tokens")) == (["user: Hi"], 9)
    assert told(made({"a.b": "Hi", "n": 0}, "a.b", "n")) == (["user: Hi"], 0)
    assert told(made({"c": [{"q": "Hi"}], "n": 3}, "c.0.q", "n")) == (["user: Hi"], 3)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": " \n", "completion": "x"}, "an empty prompt"),
        ({"messages": [{"role": "system", "content": ""}, ASKED]}, "an empty message of the system"),
        ({"messages": [SAID]}, "messages: no message of a user"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "message 1: expected a role among system, developer, user, assistant",
        ),
        ({"messages": [{"role": "user", "content": None}]}, "message 1: expected a text, seen null"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only text can be sent"),
        ({"messages": ["Hi", 3]}, "message 1: expected an object, seen a text"),
        ({"prompt": 5}, "prompt: expected a text or a list of messages, seen a number"),
        ({"foo": 1}, "none of the fields messages, conversations, prompt"),
        ([1], "expected an object or a text, seen a list"),
        ({"prompt": "\ud800", "completion": "x"}, "a lone surrogate"),
        ({"prompt": "Hi", "max_tokens": -1}, "max_tokens: expected an answer or its number of tokens, seen -1"),
        ({"prompt": "Hi", "max_tokens": True}, "seen true or false"),
        ({"prompt": "Hi"}, "set traffic.output_tokens=128"),
        ("Hi", "set traffic.output_tokens=128"),
    ],
)
def test_what_is_no_prompt_says_why(row: object, words: str) -> None:
    with pytest.raises(BadRow) as caught:
        made(row)
    assert words in str(caught.value)


def test_a_named_field_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(BadRow, match=r"no field ask \(traffic.prompt_field\); it has prompt, id"):
        made({"prompt": "Hi", "id": 1}, "ask")
    with pytest.raises(BadRow, match="a text, which has no field ask"):
        made("Hi", "ask")


@pytest.mark.parametrize("turns", [[], [GPT], [HUMAN], [{"from": "human", "value": " "}, GPT]])
def test_a_conversation_in_which_nobody_asks_and_answers_is_left_out(turns: list[object]) -> None:
    with pytest.raises(LeftOut):
        made({"conversations": turns})


def test_no_answer_is_needed_where_its_length_is_set() -> None:
    assert told(shapes.prompt(1, {"conversations": [HUMAN]}, None, None)) == (["user: Hi"], None)
