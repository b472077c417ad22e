"""Trials whose answers the quality guard has asked for: well, another one here and there, or broken."""

from __future__ import annotations

from typing import Any

from pipeline.core.answers import Answer, Asked, How, Turn
from pipeline.core.record import Record
from support.records import make_config, make_record

HOWS: tuple[How, ...] = ("alone", "busy", "again")
TEXT = ("so", "many", "words", "are", "enough", "for", "an", "answer", "that", "can", "be", "compared")
GUARD = {"name": "guard", "kind": "guard"}


def asked(*, other: int | None = None, token: str | None = None, every: int = 2) -> Asked:
    """Eight answers, three times; in some of them the token at a place is another one, or all tokens are."""
    tokens = (token,) * len(TEXT) if token else TEXT
    half = tokens if other is None else (*tokens[:other], "else", *tokens[other + 1 :])
    answers = tuple(
        Answer(question=str(at), text=" ".join(one), tokens=one, logprobs=(-0.2,) * 12, gaps=(3.0,) * 12)
        for at in range(8)
        for one in [tokens if at % every else half]
    )
    return Asked(questions=1, turns=tuple(Turn(how=how, users=1, answers=answers) for how in HOWS))


WELL, DIFFERS, FAR, BROKEN = asked(), asked(other=10), asked(other=1, every=1), asked(token="!")  # noqa: S106


def trial(number: int, score: float, answers: Asked | None, size: int | None = 32, **changes: Any) -> Record:
    """A trial with that score and those answers."""
    config = make_config(knobs={"page_size": size, "slots": None}, quality=GUARD)
    own = {"config": config, "overrides": (f"page_size={size}",), "is_baseline": size is None}
    more = {**own, "objective": {"output_tokens_per_s": score}, **changes}
    return make_record(number=number, asked=answers, **more)


def base(number: int = 0, answers: Asked | None = WELL, score: float = 100.0, **changes: Any) -> Record:
    """The baseline."""
    return trial(number, score, answers, None, **changes)
