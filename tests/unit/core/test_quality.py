"""The verdict on answers, by values alone."""

from dataclasses import replace

import pytest

from pipeline.core import quality
from pipeline.core.answers import Answer, Asked, How, Reading, Turn, is_empty, is_no_text, is_stuck
from pipeline.core.quality import judge
from pipeline.core.schema_quality import Quality

RULES = Quality(name="guard", kind="guard")
HOWS: tuple[How, ...] = ("alone", "busy", "again")
WORDS = ("every", "good", "answer", "has", "a", "number", "of", "words", "that", "follow", "each", "other")


def answer(question: int, tokens: tuple[str, ...] = WORDS, *, logprob: float | None = -0.3, gap: float = 4.0) -> Answer:
    told = logprob is not None
    return Answer(
        question=str(question),
        text=" ".join(tokens),
        tokens=tokens if told else (),
        logprobs=(logprob,) * len(tokens) if logprob is not None else (),
        gaps=(gap,) * len(tokens) if told else (),
    )


def asked(*answers: Answer, readings: tuple[Reading, ...] = (), hows: tuple[How, ...] = HOWS) -> Asked:
    turns = tuple(Turn(how=how, users=1, answers=answers, readings=readings) for how in hows)
    return Asked(questions=1, turns=turns, seconds=1.0)


def changed(at: int, word: str = "otherwise") -> tuple[str, ...]:
    return (*WORDS[:at], word, *WORDS[at + 1 :])


def reading(passage: int, wrong: int = 0, *, own: float = -2.0, apart: float = 0.0, count: int = 50) -> Reading:
    tops = tuple("x" if at < wrong else str(at) for at in range(count))
    return Reading(
        passage=str(passage), tops=tops, logprobs=(-0.5 - apart,) * count, gaps=(2.0,) * count, own=(own,) * count
    )


WELL = asked(*(answer(at) for at in range(8)))


def test_equal_answers_are_the_same() -> None:
    found = judge(WELL, WELL, RULES)
    assert (found.word, found.may_win) == ("same", True)
    assert str(found) == "same (100% of 288 tokens, floor 100%, free-running)"


def test_one_token_of_hundreds_is_no_difference() -> None:
    ours = asked(answer(0, changed(3)), *(answer(at) for at in range(1, 8)), hows=("alone",))
    assert judge(ours, WELL, RULES).word == "same"


def test_what_differs_more_than_the_floor_is_told_and_may_win() -> None:
    ours = asked(*(answer(at, changed(10)) if at < 4 else answer(at) for at in range(8)))
    found = judge(ours, WELL, RULES)
    assert (found.word, found.may_win) == ("differs", True)
    assert found.agreement is not None
    assert found.agreement.compared - found.agreement.alike == 12


def test_what_differs_as_much_as_the_baseline_from_itself_is_the_same() -> None:
    other = tuple(answer(at, changed(10)) if at < 4 else answer(at) for at in range(8))
    turns = tuple(
        Turn(how=how, users=1, answers=tuple(answer(at) for at in range(8)) if how == "alone" else other)
        for how in HOWS
    )
    base = Asked(questions=1, turns=turns)
    found = judge(asked(*other), base, RULES)
    assert found.word == "same"
    assert found.floor is not None
    assert found.floor.share < 1


def test_other_tokens_where_the_baseline_was_undecided_say_nothing() -> None:
    base = asked(*(answer(at, gap=0.1) for at in range(8)))
    ours = asked(*(answer(at, changed(10)) for at in range(8)))
    assert judge(ours, base, RULES).word == "same"


def test_below_the_least_agreement_nothing_wins() -> None:
    ours = asked(*(answer(at, changed(2)) for at in range(8)))
    found = judge(ours, WELL, RULES)
    assert (found.word, found.may_win) == ("differs", False)
    assert "below quality.min_agreement=0.9" in str(found)
    assert judge(ours, WELL, replace(RULES, min_agreement=0.5)).may_win


def test_garbage_that_looks_like_text_cannot_win_without_log_probabilities_either() -> None:
    base = asked(*(answer(at, logprob=None) for at in range(8)))
    ours = asked(*(answer(at, tuple(f"w{at}{i}" for i in range(12)), logprob=None) for at in range(8)))
    found = judge(ours, base, RULES)
    assert (found.word, found.may_win) == ("differs", False)
    assert found.agreement is not None
    assert found.agreement.share == 0


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [((), "empty in 24 of 24"), (("!",) * 12, "one token repeated"), (("\x00�",) * 7, "not text in 24 of 24")],
)
def test_broken_answers_never_win(tokens: tuple[str, ...], reason: str) -> None:
    found = judge(asked(*(answer(at, tokens, logprob=-0.1) for at in range(8))), WELL, RULES)
    assert (found.word, found.may_win) == ("broken", False)
    assert reason in found.reason


def test_the_same_answers_with_collapsed_log_probabilities_are_broken() -> None:
    found = judge(asked(*(answer(at, logprob=-2.6) for at in range(8))), WELL, RULES)
    assert (found.word, found.may_win) == ("broken", False)
    assert "fell from -0.3 to -2.6" in found.reason


def test_a_given_text_that_becomes_twice_as_unlikely_is_broken() -> None:
    base = asked(*WELL.answers[:8], readings=tuple(reading(at) for at in range(6)))
    ours = asked(*WELL.answers[:8], readings=tuple(reading(at, own=-2.8) for at in range(6)))
    assert judge(ours, base, RULES).word == "broken"


def test_a_given_text_shows_what_the_answers_do_not() -> None:
    base = asked(*WELL.answers[:8], readings=tuple(reading(at) for at in range(6)))
    ours = asked(*WELL.answers[:8], readings=tuple(reading(at, wrong=3) for at in range(6)))
    found = judge(ours, base, RULES)
    assert (found.word, found.may_win) == ("differs", True)
    assert str(found) == "differs (94.0% of 900 tokens, floor 100%, teacher-forced)"


def test_log_probabilities_far_apart_are_a_difference_though_all_tokens_agree() -> None:
    base = asked(*WELL.answers[:8], readings=tuple(reading(at) for at in range(6)))
    ours = asked(*WELL.answers[:8], readings=tuple(reading(at, apart=0.4) for at in range(6)))
    assert (judge(ours, base, RULES).word, judge(ours, base, RULES).may_win) == ("differs", True)


@pytest.mark.parametrize(
    ("ours", "base", "reason"),
    [
        (WELL, None, "the baseline was not asked"),
        (None, WELL, "was not asked"),
        (asked(), WELL, "did not answer: no question was asked"),
        (Asked(questions=1, missing="the server ended"), WELL, "did not answer: the server ended"),
        (Asked(questions=2, turns=WELL.turns), WELL, "other questions"),
        (WELL, asked(*(answer(at, logprob=-7.0) for at in range(8))), "the baseline itself looks broken: the mean"),
        (WELL, asked(*(answer(at, ()) for at in range(8))), "the baseline itself looks broken: empty in 24 of 24"),
        (asked(answer(0), answer(1), hows=("alone",)), WELL, "fewer than 4 answers"),
    ],
)
def test_what_cannot_be_compared_is_unknown_and_may_win(ours: Asked | None, base: Asked | None, reason: str) -> None:
    found = judge(ours, base, RULES)
    assert (found.word, found.may_win) == ("unknown", True)
    assert reason in found.reason


def test_what_was_said_instead_of_an_answer_is_told() -> None:
    ours = Asked(questions=1, turns=(Turn(how="alone", users=1, errors={"HTTP 500": 3, "no answer": 1}),))
    assert judge(ours, WELL, RULES).reason == "did not answer: HTTP 500"


def test_looks() -> None:
    assert is_empty(answer(0, ("\n", " ")))
    assert is_stuck(answer(0, ("a", *["b"] * 20)))
    assert is_stuck(Answer(question="0", text="!!!!!!!!!!!!"))
    assert not is_stuck(answer(0, ("no", "no", "no")))
    assert not is_stuck(answer(0))
    assert is_no_text(Answer(question="0", text="a���"))
    assert not is_no_text(Answer(question="0", text="Grüße, 你好 😀\n\tok\nthe last letter was cut �"))


@pytest.mark.parametrize(
    ("count", "tries", "rate", "wanted"), [(0, 10, 0.1, 1.0), (1, 2, 0.5, 0.75), (2, 2, 0.5, 0.25)]
)
def test_chance_is_the_binomial_tail(count: int, tries: int, rate: float, wanted: float) -> None:
    assert quality.chance(count, tries, rate) == pytest.approx(wanted)


def test_a_share_below_one_is_never_called_all() -> None:
    assert quality.percent(0.99999) == "99.9%"
    assert quality.percent(1.0) == "100%"
