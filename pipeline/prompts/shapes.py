"""What a row of a file means: a prompt of one or more messages, and how long its answer was. Pure.

Known shapes: a text; an object with a text; OpenAI's `messages` (https://platform.openai.com/docs/api-reference/chat),
of which the last answer is the recorded one; ShareGPT's `conversations`, of which the first question is asked, as the
benchmarks of vLLM and SGLang do (vllm benchmarks/datasets.py ShareGPTDataset, sglang bench_serving.py sample_sharegpt).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.prompts.rows import named

PROMPT_FIELDS = ("messages", "conversations", "prompt", "question", "instruction", "text", "query", "input", "turns")
OUTPUT_FIELDS = ("output_tokens", "completion_tokens", "max_tokens", "completion", "response", "answer", "output")
ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "model": "assistant",
}
LARGEST = 10_000_000  # tokens of an answer


class BadRow(Exception):
    """Why a row is no prompt."""


class LeftOut(Exception):
    """A conversation in which nobody asks: ShareGPT's files have some."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent. `answer`: the recorded answer, or its number of tokens."""

    at: int  # line or item of the file
    messages: tuple[Message, ...]
    answer: str | int | None
    is_conversation: bool = False  # ShareGPT's

    @property
    def text(self) -> str:
        """All messages together."""
        return "\n".join(each.content for each in self.messages)


def prompt(
    at: int, row: object, prompt_field: str | None, output_field: str | None, *, needs_answer: bool = False
) -> Prompt:
    """The prompt in a row. `needs_answer`: nothing else tells how long answers are to be.

    Raises:
        BadRow: there is none, or no answer.
        LeftOut: it is a conversation without a question, or without the answer that is needed.
    """
    made = _prompt(at, row, prompt_field, output_field)
    if made.answer is not None or not needs_answer:
        return made
    if output_field is None and made.is_conversation:
        raise LeftOut
    raise BadRow(
        "no recorded answer tells how many tokens to ask for: set traffic.output_tokens=128, or another number for "
        "every answer, or traffic.output_field to the field with the answer or its number of tokens"
    )


def _prompt(at: int, row: object, prompt_field: str | None, output_field: str | None) -> Prompt:
    if isinstance(row, str):
        if prompt_field is not None:
            raise BadRow(f"a text, which has no field {prompt_field} (traffic.prompt_field)")
        return Prompt(at=at, messages=(_message("user", row),), answer=None)
    if not isinstance(row, Mapping):
        raise BadRow(f"expected an object or a text, seen {named(row)}")
    field, found = _found(row, prompt_field, PROMPT_FIELDS, "traffic.prompt_field")
    messages, answer = _messages(field, found)
    told = _answer(row, output_field) if output_field is not None or answer is None else answer
    return Prompt(at=at, messages=messages, answer=told, is_conversation=_is_conversation(field, found))


def _found(row: Mapping[str, Any], wanted: str | None, known: tuple[str, ...], key: str) -> tuple[str, Any]:
    for name in (wanted,) if wanted is not None else known:
        inner = _inside(row, name)
        if inner is not None:
            return name, inner
    has = ", ".join(map(str, list(row)[:8])) or "no fields"
    looked = f"no field {wanted} ({key})" if wanted is not None else f"none of the fields {', '.join(known)}"
    raise BadRow(f"{looked}; it has {has}" + ("" if wanted else f": set {key}"))


def _inside(row: object, name: str) -> Any:
    """A field; dots lead into objects and lists, where no field has that very name."""
    if isinstance(row, Mapping) and name in row:
        return row[name]
    found: Any = row
    for part in name.split("."):
        if isinstance(found, list):
            found = found[int(part)] if part.isdigit() and int(part) < len(found) else None
        else:
            found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _messages(field: str, found: object) -> tuple[tuple[Message, ...], str | None]:
    """The messages to send, and the recorded answer that is among them."""
    if isinstance(found, str):
        return (_message("user", found),), None
    if not isinstance(found, list):
        raise BadRow(f"{field}: expected a text or a list of messages, seen {named(found)}")
    if found and all(isinstance(turn, str) for turn in found):
        return (_message("user", found[0]),), None
    return _first_question(field, found) if _is_conversation(field, found) else _whole_chat(field, found)


def _is_conversation(field: str, found: object) -> bool:
    """Whether it is one of ShareGPT's."""
    if not isinstance(found, list) or all(isinstance(turn, str) for turn in found):
        return isinstance(found, list) and not found and field == "conversations"
    is_named = field.rpartition(".")[2] == "conversations"
    return is_named or any(isinstance(turn, Mapping) and "from" in turn for turn in found)


def _whole_chat(field: str, found: list[Any]) -> tuple[tuple[Message, ...], str | None]:
    """All messages up to the last answer."""
    chat = [_message(*_turn(field, number, turn, "role", "content")) for number, turn in enumerate(found, 1)]
    answer = chat.pop().content if chat and chat[-1].role == "assistant" else None
    if not any(each.role == "user" for each in chat):
        raise BadRow(f"{field}: no message of a user")
    return tuple(chat), answer


def _first_question(field: str, found: list[Any]) -> tuple[tuple[Message, ...], str | None]:
    """The first question, what a system said before it, and the answer."""
    turns = [_turn(field, number, turn, "from", "value") for number, turn in enumerate(found, 1)]
    at = next((index for index, (role, text) in enumerate(turns) if role == "user" and text.strip()), None)
    if at is None:
        raise LeftOut
    system = [_message(role, text) for role, text in turns[:at] if role == "system" and text.strip()]
    after = turns[at + 1 : at + 2]
    return (*system, _message("user", turns[at][1])), after[0][1] if after and after[0][0] == "assistant" else None


def _turn(field: str, number: int, turn: object, who: str, what: str) -> tuple[str, str]:
    if not isinstance(turn, Mapping):
        raise BadRow(f"{field}, message {number}: expected an object, seen {named(turn)}")
    role = turn.get(who, turn.get("role"))
    if role not in ROLES:
        known = ", ".join(dict.fromkeys(ROLES.values()))
        raise BadRow(f"{field}, message {number}: expected a role among {known}, seen {_quoted(role)}")
    content = turn.get(what, turn.get("content"))
    return ROLES[role], _plain(field, number, content)


def _plain(field: str, number: int, content: object) -> str:
    """A text, or the parts of one."""
    if isinstance(content, list) and content:
        return "".join(_part(field, number, part) for part in content)
    if not isinstance(content, str):
        raise BadRow(f"{field}, message {number}: expected a text, seen {named(content)}")
    return content


def _part(field: str, number: int, part: object) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise BadRow(f"{field}, message {number}: only text can be sent, no images, sound or files")
    return text


def _quoted(item: object) -> str:
    return repr(item[:40]) if isinstance(item, str) else named(item)


def _message(role: str, text: str) -> Message:
    if not text.strip():
        raise BadRow("an empty prompt" if role == "user" else f"an empty message of the {role}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRow("half a character (a lone surrogate), which cannot be sent as UTF-8") from error
    return Message(role=role, content=text)


def _answer(row: Mapping[str, Any], wanted: str | None) -> str | int | None:
    if wanted is not None:
        return _length(*_found(row, wanted, (), "traffic.output_field"))
    fields: Iterator[tuple[str, Any]] = ((name, row[name]) for name in OUTPUT_FIELDS if row.get(name) is not None)
    return next((_length(name, found) for name, found in fields), None)


def _length(name: str, found: object) -> str | int:
    """The recorded answer, or its number of tokens; a number in a CSV file is one where its column says tokens."""
    if isinstance(found, list):
        found = found[0] if found and isinstance(found[0], str) else found
    if isinstance(found, str):
        if "token" not in name:
            return found
        found = int(found) if found.strip().isdigit() and len(found) < len(str(LARGEST)) + 1 else found
    if type(found) is not int or not 0 <= found <= LARGEST:
        what = f"{found}" if type(found) is int else named(found)
        raise BadRow(f"{name}: expected an answer or its number of tokens, seen {what}")
    return found
