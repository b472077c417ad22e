"""What a search learned and why it ran what it ran, in sentences. Pure."""

from collections.abc import Sequence

from pipeline.core import crash_rules, resolved
from pipeline.core.crash_rules import Observed
from pipeline.core.record import Record
from pipeline.report import ranking


def crashes(records: Sequence[Record]) -> list[str]:
    """Which settings go with which kind of failure, where that is clear."""
    engines = ranking.by_engine(records)
    told = {engine: _crashes(some) for engine, some in engines.items()}
    return [words if len(engines) < 2 else f"{engine}: {words}" for engine, some in told.items() for words in some]


def _crashes(records: Sequence[Record]) -> list[str]:
    seen = [_observed(record) for record in records if record.repeat_of is None and record.status in {"ok", "failed"}]
    return [rule.words for rule in crash_rules.rules(seen)]


def proposals(records: Sequence[Record]) -> list[tuple[int, str]]:
    """Each trial that a search proposed, and why."""
    return [(record.number, record.reason.words) for record in records if record.reason]


def _observed(record: Record) -> Observed:
    """The knobs as asked; those left to the engine as it set them, if it says so."""
    asked = {name: pick for name, pick in record.config.knobs.items() if pick is not None}
    return Observed(
        settings={**resolved.reported(record.config, record.settings), **asked},
        kind=record.failure.kind if record.failure else None,
    )
