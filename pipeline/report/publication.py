"""Publishes the end of a sweep to the tracker of its trials."""

import sys
from collections.abc import Mapping, Sequence

from pipeline import trackers
from pipeline.core import statistics
from pipeline.core.errors import Interrupted, PipelineError
from pipeline.core.files import SweepDir
from pipeline.core.record import Level, LevelMetrics, Record
from pipeline.core.statistics import Interval
from pipeline.machine import signals
from pipeline.report import command, evaluated, sentences, table, verdict
from pipeline.report.best import scripts
from pipeline.report.ranking import Row, samples
from pipeline.report.verdict import Verdict
from pipeline.trackers.result import GROUPS, SweepResult, TrialResult, Winner


def publish(sweep: SweepDir, records: Sequence[Record]) -> None:
    """Publish, and say where; what goes wrong is said on one line and costs nothing else. A signal breaks it off."""
    if not records:
        return
    config = records[-1].config.tracker
    try:
        with signals.heard():
            lines = trackers.load(config.target).publish_sweep(result_of(records, sweep), config, sweep)
    except (Exception, Interrupted) as error:  # noqa: BLE001 - the table is printed already, and nothing depends on this
        signals.acknowledge()
        words = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"
        sys.stderr.write(f"The sweep was not published: {' '.join(words.split())}\n")
    else:
        for line in lines:
            print(line)
    finally:
        trackers.close()


def result_of(records: Sequence[Record], sweep: SweepDir | None = None) -> SweepResult:
    """What a tracker is told of these trials. `sweep`: where evaluations are, if there are any."""
    found = verdict.of(records)
    rows = {row.number: row for row in found.rows}
    place = {number: index for index, number in enumerate(rows)}
    ordered = sorted(records, key=lambda record: (place.get(record.number, len(place)), record.number))
    return SweepResult(
        sweep_id=records[0].sweep_id,
        choices={group: _chosen(group, records) for group in GROUPS},
        objectives=found.names,
        knobs=tuple(knob for knob in _knobs(records) if _differs(knob, records)),
        trials=tuple(_trial(record, rows, found, records) for record in ordered),
        best=_winner(records, found),
        verdict=tuple(sentences.of(found)),
        exit_code=found.exit_code,
        evaluations=evaluated.of(sweep.path, found) if sweep else (),
    )


def _chosen(group: str, records: Sequence[Record]) -> str:
    """The option that the trials have; several with commas between them."""
    return ",".join(dict.fromkeys(str(getattr(record.config, group).name) for record in records))


def _knobs(records: Sequence[Record]) -> dict[str, None]:
    """Of all engines."""
    return dict.fromkeys(knob for record in records for knob in record.config.knobs)


def _differs(knob: str, records: Sequence[Record]) -> bool:
    """Whether it has several values, in the trials of engines that have it."""
    return len({record.config.knobs[knob] for record in records if knob in record.config.knobs}) > 1


def _trial(record: Record, rows: Mapping[int, Row], found: Verdict, records: Sequence[Record]) -> TrialResult:
    row, names = rows.get(record.number), found.names
    known = row or rows.get(record.number if record.repeat_of is None else record.repeat_of)
    seen = _best_metrics(record)
    return TrialResult(
        rank=row.rank if row else None,
        number=record.number,
        overrides=" ".join(known.overrides if known else record.overrides),
        status=record.status,
        objectives={name: record.objective[name] for name in names if record.objective and name in record.objective},
        repeated=_repeated(record, names, records),
        against_baseline=row.change if row else None,
        change=table.change(row, found) if row else "",
        flags=", ".join(row.flags) if row else "",
        best_level=record.best_level,
        output_tokens_per_s=seen.output_tokens_per_s if seen else None,
        ttft_p95_s=seen.ttft.p95 if seen and seen.ttft else None,
        tpot_p95_s=seen.tpot.p95 if seen and seen.tpot else None,
        error_rate=seen.error_rate if seen else None,
        failure_kind=record.failure.kind.value if record.failure else None,
        repeat_of=record.repeat_of,
        phase=record.phase,
        same_as=record.same_as,
        quality=str(row.quality or "") if row else "",
        is_barred=known.is_barred if known else False,
    )


def _best_metrics(record: Record) -> LevelMetrics | None:
    level: Level | None = next((level for level in record.levels if level.name == record.best_level), None)
    return level.metrics if level else None


def _repeated(record: Record, names: Sequence[str], records: Sequence[Record]) -> Interval | None:
    """The mean over all of the search's trials of the configuration, as in the ranking; shown in the first's row."""
    if record.repeat_of is not None or not names:
        return None
    found = [one.objective or {} for one in samples(record, records)]
    scores = [objective[names[0]] for objective in found if names[0] in objective]
    return statistics.interval(scores) if len(scores) > 1 else None


def _winner(records: Sequence[Record], found: Verdict) -> Winner | None:
    row = found.best
    if row is None:
        return None
    record = next(record for record in records if record.number == row.number)
    return Winner(
        number=record.number,
        overrides=" ".join(row.overrides),
        command=command.line(record),
        server_command=scripts.server_line(record),
        best_level=record.best_level,
        objectives=dict(zip(found.names, row.objective or (), strict=False)),
        against_baseline=row.change,
        against_baseline_low=row.change_low,
        against_baseline_high=row.change_high,
        rounds=row.rounds,
        verdict=found.kind,
        quality=str(row.quality or ""),
        knobs={name: seen for name, seen in record.config.knobs.items() if seen is not None},
    )
