"""The answers of the recommended configuration, beside those of the baseline. Pure."""

from collections.abc import Sequence

from pipeline.core import quality
from pipeline.core.answers import Asked
from pipeline.core.quality import Judgement
from pipeline.core.record import Record
from pipeline.core.values import to_json, value
from pipeline.report import answered, ranking

NAME = "answers.json"


@value
class Answers:
    """What the quality guard was answered, and what it says of that. None: of the baseline itself; it was not asked."""

    quality: Judgement | None
    winner: Asked | None
    baseline: Asked | None

    @property
    def can_be_compared(self) -> bool:
        """Whether there are any of the baseline."""
        return self.baseline is not None and bool(self.baseline.answers or self.baseline.readings)


@value
class Again:
    """What the configuration answers when it is measured again, both times against the sweep's baseline."""

    now: Judgement
    then: Judgement | None  # None: it is the baseline itself

    @property
    def is_fault(self) -> bool:
        """Whether it cannot win any more, or differs, which it did not. What is unknown is told, and is no fault."""
        was_same = self.then is None or self.then.word == "same"
        return not self.now.may_win or (self.now.word == "differs" and was_same)

    def __str__(self) -> str:
        """E.g. `broken (empty in 36 of 36 answers; ...); in the sweep: same (100% of 566 tokens, ...)`."""
        return f"{self.now}; in the sweep: {self.then or 'it was the baseline'}"


def again(told: Answers, record: Record) -> Again:
    """The answers of a new trial of the configuration."""
    rules = record.config.quality
    then = told.quality if told.winner is not None else quality.judge(None, told.baseline, rules)
    return Again(now=quality.judge(record.asked, told.baseline, rules), then=then)


def files(winner: Record, records: Sequence[Record]) -> dict[str, str]:
    """The file with the answers, by its name; none where nobody was asked."""
    part = next((some for some in ranking.by_engine(records).values() if winner in some), [])
    base, mine = answered.reference(part), answered.answers_of(winner.number, part)
    if base is None and mine is None:
        return {}
    told = Answers(
        quality=answered.of(part).get(winner.number),
        winner=mine.asked if mine else None,
        baseline=base.asked if base else None,
    )
    return {NAME: to_json(told) + "\n"}
