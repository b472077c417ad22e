"""Whether a configuration answers as the baseline does: the verdict of the quality guard. Pure.

Two things are compared, each with what the baseline does against itself (the floor). *Teacher-forced*: which token
the engine expects at each place of a given text, where it tells that. *Free-running*: the tokens of its own greedy
answers, up to the first that differs; later ones follow from other words. A token that differs where the baseline was
itself undecided (NEAR_TIE) says nothing. The thresholds and where they come from: docs/quality.md.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pipeline.core.answers import LOOKS, Answer, Asked, Reading, Turn, mean, share
from pipeline.core.schema_quality import Quality
from pipeline.core.values import value

NEAR_TIE = 0.25  # nats between the best and the second token: two steps of bfloat16 at a logit of 16 to 32
MOST = 0.5  # of the answers: a configuration most of whose answers are broken is
LEAST = 4  # answers or passages that both have: fewer are no comparison
COLLAPSE = math.log(2)  # nats per token of a given text: twice the perplexity
LOST = 2.0  # nats that the best token of greedy answers loses
UNSURE = (
    -3.0
)  # mean log-probability of the best token: a random model in vLLM had -5.3, working ones -0.3; others may look sure
CLUELESS = -6.0  # the same of the tokens of an ordinary text
PRIOR, PRIOR_TOKENS = 0.01, 100  # share of tokens that rounding may change, before the floor has said more
SURE = 0.01  # chance of calling `differs` what differs no more than the floor, if tokens were independent
NOISE_NATS, NOISE_TIMES = 0.05, 3.0  # how far log-probabilities may be apart: nats, and times the floor's distance

Word = Literal["same", "differs", "broken", "unknown"]
Way = Literal["teacher-forced", "free-running"]


@value
class Agreement:
    """How many of the compared tokens agree, and how far log-probabilities are apart."""

    way: Way
    alike: int
    compared: int
    parts: int  # answers or passages
    distance: float | None = None  # mean absolute difference of the best token's log-probability, where it is the same

    @property
    def share(self) -> float:
        """Of the compared tokens that agree."""
        return self.alike / self.compared if self.compared else 1.0


@value
class Judgement:
    """The verdict on the answers of one configuration."""

    word: Word
    may_win: bool = True
    reason: str = ""  # of broken and unknown
    agreement: Agreement | None = None
    floor: Agreement | None = None  # None: the baseline was asked only once

    def __str__(self) -> str:
        """E.g. `differs (93.1% of 412 tokens, floor 99.8%, teacher-forced)`."""
        seen, floor = self.agreement, self.floor
        if seen is None:
            return f"{self.word} ({self.reason})" if self.reason else self.word
        least = f"floor {percent(floor.share)}" if floor else "no floor"
        told = f"{percent(seen.share)} of {seen.compared} tokens, {least}, {seen.way}"
        return f"{self.word} ({self.reason}; {told})" if self.reason else f"{self.word} ({told})"


def percent(part: float) -> str:
    """Never 100% of what is less."""
    return "100%" if part == 1 else f"{math.floor(1000 * part) / 10:.1f}%"


def judge(ours: Asked | None, base: Asked | None, rules: Quality) -> Judgement:
    """The verdict on `ours` against the answers of the baseline; `unknown` where they cannot be compared."""
    reason = _why_not(ours, base)
    if reason is not None or ours is None or base is None:
        return Judgement(word="unknown", reason=reason or "")
    found = [one for one in _agreements(ours.turns, base) if one.parts >= LEAST]
    floors = {one.way: one for one in _agreements([one for one in base.turns if one is not _reference(base)], base)}
    differing = [one for one in found if _differs(one, floors.get(one.way))]
    worst = min(differing or found, key=lambda one: one.share, default=None)
    floor = floors.get(worst.way) if worst else None
    if broken := _broken(ours, base):
        return Judgement(word="broken", may_win=False, reason=broken, agreement=worst, floor=floor)
    if worst is None:
        return Judgement(word="unknown", reason=f"fewer than {LEAST} answers of both to compare")
    is_far = bool(differing) and worst.share < rules.min_agreement
    return Judgement(
        word="differs" if differing else "same",
        may_win=not is_far,
        reason=f"below quality.min_agreement={rules.min_agreement:g}" if is_far else "",
        agreement=worst,
        floor=floor,
    )


def _why_not(ours: Asked | None, base: Asked | None) -> str | None:
    """Why there is nothing to compare; None: there is."""
    if reason := _unanswered(base):
        return f"the baseline {reason}"
    if base is not None and (reason := _looks_broken(base)):
        return f"the baseline itself looks broken: {reason}"
    if reason := _unanswered(ours):
        return reason
    if ours is not None and base is not None and ours.questions != base.questions:
        return "the baseline was asked other questions, by another version of servetune"
    return None


def _unanswered(asked: Asked | None) -> str | None:
    if asked is None:
        return "was not asked"
    if not asked.answers and not asked.readings:
        return f"did not answer: {asked.error or asked.missing or 'no question was asked'}"
    return None


def _looks_broken(asked: Asked) -> str | None:
    """What is wrong with answers by themselves."""
    answers = asked.answers
    for name, look in LOOKS.items():
        if (part := share(look, answers)) > MOST:
            return f"{name} in {round(part * len(answers))} of {len(answers)} answers"
    sure, clue = _sureness(answers), _clue(asked.readings)
    if sure is not None and sure < UNSURE:
        return f"the mean log-probability of its likeliest tokens is {sure:.1f}, as of random weights"
    if clue is not None and clue < CLUELESS:
        return f"the mean log-probability of an ordinary text is {clue:.1f} per token, as of random weights"
    return None


def _broken(ours: Asked, base: Asked) -> str | None:
    """What is wrong with answers, while the baseline's are well."""
    if (reason := _looks_broken(ours)) is not None:
        return reason
    shift = _shift(ours, base)
    if shift is not None and shift < -COLLAPSE:
        return f"a given text is {math.exp(-shift):.1f} times as unlikely per token as to the baseline"
    mine, theirs = _sureness(ours.answers), _sureness(base.answers)
    if mine is not None and theirs is not None and mine < theirs - LOST:
        return f"the mean log-probability of its likeliest tokens fell from {theirs:.1f} to {mine:.1f}"
    return None


def _sureness(answers: Iterable[Answer]) -> float | None:
    return mean(seen for one in answers for seen in one.logprobs)


def _clue(readings: Iterable[Reading]) -> float | None:
    return mean(seen for one in readings for seen in one.own)


def _shift(ours: Asked, base: Asked) -> float | None:
    """How much likelier given texts are to ours, per token."""
    theirs = {one.passage: one for one in _reference(base).readings}
    pairs = [(mine, theirs[mine.passage]) for mine in ours.readings if mine.passage in theirs]
    return mean(a - b for mine, their in pairs for a, b in zip(mine.own, their.own, strict=False))


def _reference(base: Asked) -> Turn:
    """The baseline's answers that all others are held against."""
    return base.turn("alone") or base.turns[0]


def _agreements(turns: Sequence[Turn], base: Asked) -> Iterator[Agreement]:
    """All that was read, and all that was answered, in these turns, against the reference; each where there is any."""
    reference = _reference(base)
    read, said = ({one.passage: one for one in reference.readings}, {one.question: one for one in reference.answers})
    forced = [_reading(one, read[one.passage]) for turn in turns for one in turn.readings if one.passage in read]
    free = [_answer(one, said[one.question]) for turn in turns for one in turn.answers if one.question in said]
    yield from (_pooled("teacher-forced", forced), _pooled("free-running", free))


@value
class Compared:
    """One answer or passage against another."""

    alike: int
    compared: int
    distances: tuple[float, ...] = ()


def _reading(mine: Reading, theirs: Reading) -> Compared:
    """Place by place; where the baseline was undecided, another token says nothing."""
    places = list(zip(mine.tops, theirs.tops, theirs.gaps, mine.logprobs, theirs.logprobs, strict=False))
    alike = [abs(ours - other) for top, best, _, ours, other in places if top == best]
    unlike = sum(top != best and gap >= NEAR_TIE for top, best, gap, _, _ in places)
    return Compared(alike=len(alike), compared=len(alike) + unlike, distances=tuple(alike))


def _answer(mine: Answer, theirs: Answer) -> Compared:
    """Up to the first token that differs; whether that one counts, the baseline's own gap says."""
    has_tokens = bool(mine.tokens and theirs.tokens)
    ours, others = (mine.tokens, theirs.tokens) if has_tokens else (mine.text.split(), theirs.text.split())
    alike = next(
        (at for at, (a, b) in enumerate(zip(ours, others, strict=False)) if a != b), min(len(ours), len(others))
    )
    is_over = alike == len(others)  # the baseline's answer ends here; how nearly it went on, nobody tells
    is_tie = has_tokens and alike < len(theirs.gaps) and theirs.gaps[alike] < NEAR_TIE
    told = zip(mine.logprobs[:alike], theirs.logprobs[:alike], strict=False) if has_tokens else ()
    distances = [abs(a - b) for a, b in told]
    return Compared(alike=alike, compared=alike + (not is_over and not is_tie), distances=tuple(distances))


def _pooled(way: Way, found: Sequence[Compared]) -> Agreement:
    return Agreement(
        way=way,
        alike=sum(one.alike for one in found),
        compared=sum(one.compared for one in found),
        parts=len(found),
        distance=mean(seen for one in found for seen in one.distances),
    )


def _differs(seen: Agreement, floor: Agreement | None) -> bool:
    """Whether more tokens differ, or log-probabilities are further apart, than of the baseline against itself."""
    missed, tried = (floor.compared - floor.alike, floor.compared) if floor else (0, 0)
    rate = (missed + PRIOR * PRIOR_TOKENS) / (tried + PRIOR_TOKENS)
    if chance(seen.compared - seen.alike, seen.compared, rate) < SURE:
        return True
    least = NOISE_TIMES * floor.distance if floor and floor.distance is not None else 0.0
    return seen.distance is not None and seen.distance > max(NOISE_NATS, least)


def chance(count: int, tries: int, rate: float) -> float:
    """The probability of at least `count` of so many tries, each with this rate (binomial)."""
    below = (
        math.exp(
            math.lgamma(tries + 1) - math.lgamma(one + 1) - math.lgamma(tries - one + 1)
            + one * math.log(rate) + (tries - one) * math.log1p(-rate)
        )
        for one in range(count)
    )  # fmt: skip
    return max(0.0, 1 - math.fsum(below)) if rate < 1 else 1.0
