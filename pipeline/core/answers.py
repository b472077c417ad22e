"""What an engine answered to the questions of the quality guard, and how one answer looks. Pure.

Tokens are as the engine spells them, log-probabilities are natural logarithms.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field

from pipeline.core.values import value

How = Literal["alone", "busy", "again"]  # one question at a time; as many at a time as the busiest level; as `alone`

STUCK_LEAST = 8  # tokens of an answer: "no no no" is one
STUCK_SHARE = 0.9  # of neighbours that are equal
STRANGE_SHARE = 0.2  # of characters that are in no text
GIBBERISH = ("Cc", "Cn", "Co", "Cs")  # Unicode's categories of what nobody writes
BLANKS = "\n\t\r"


@value
class Answer:
    """One answer, generated greedily. Without log-probabilities, `tokens` are its words."""

    question: str
    text: str
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()  # of each token; empty: the engine tells none
    gaps: tuple[float, ...] = ()  # how far the second best token was behind

    @property
    def spelled(self) -> tuple[str, ...]:
        """Its tokens, or its words where the engine tells no tokens."""
        return self.tokens or tuple(self.text.split())


@value
class Reading:
    """What the engine expected at each place of a given text: one item for each of its tokens but the first."""

    passage: str
    tops: tuple[str, ...]  # the likeliest token
    logprobs: tuple[float, ...]  # of it
    gaps: tuple[float, ...]  # how far the second best was behind
    own: tuple[float, ...]  # log-probability of the token that is there


@value
class Turn:
    """All questions and passages, asked once. What was not answered in time is missing."""

    how: How
    users: int
    answers: tuple[Answer, ...] = ()
    readings: tuple[Reading, ...] = ()
    errors: Mapping[str, int] = Field(default_factory=dict)  # what was said instead of an answer: how often
    seconds: float = 0.0


@value
class Asked:
    """What the quality guard has brought of one trial."""

    questions: int  # the version of the set: answers to different questions say nothing of each other
    turns: tuple[Turn, ...] = ()
    missing: str | None = None  # why nothing, or not all, was asked
    seconds: float = 0.0

    def turn(self, how: How) -> Turn | None:
        """The turn that was asked so."""
        return next((one for one in self.turns if one.how == how), None)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """All of them."""
        return tuple(answer for turn in self.turns for answer in turn.answers)

    @property
    def readings(self) -> tuple[Reading, ...]:
        """All of them."""
        return tuple(reading for turn in self.turns for reading in turn.readings)

    @property
    def error(self) -> str | None:
        """What was said most often instead of an answer."""
        said: dict[str, int] = {}
        for turn in self.turns:
            for words, count in turn.errors.items():
                said[words] = said.get(words, 0) + count
        return max(said, key=lambda words: said[words], default=None)


def is_empty(answer: Answer) -> bool:
    """Whether it says nothing."""
    return not answer.text.strip()


def is_stuck(answer: Answer) -> bool:
    """Whether it is one token, or one letter, again and again."""
    return any(_repeats(one) for one in (answer.spelled, answer.text.strip()))


def _repeats(parts: Sequence[str]) -> bool:
    if len(parts) < STUCK_LEAST:
        return False
    return sum(left == right for left, right in pairwise(parts)) / (len(parts) - 1) >= STUCK_SHARE


def is_no_text(answer: Answer) -> bool:
    """Whether it consists of what no text has: control characters, bytes that are no UTF-8."""
    strange = sum(one == "�" or _is_strange(one) for one in answer.text)
    return strange > STRANGE_SHARE * len(answer.text)


def _is_strange(letter: str) -> bool:
    return letter not in BLANKS and unicodedata.category(letter) in GIBBERISH


LOOKS: Mapping[str, Callable[[Answer], bool]] = {
    "empty": is_empty,
    "one token repeated": is_stuck,
    "not text": is_no_text,
}


def share(look: Callable[[Answer], bool], answers: Sequence[Answer]) -> float:
    """How many of the answers look so."""
    return sum(map(look, answers)) / len(answers) if answers else 0.0


def mean(numbers: Iterable[float]) -> float | None:
    """None of nothing."""
    found = [*numbers]
    return sum(found) / len(found) if found else None
