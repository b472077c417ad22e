"""Finds an earlier trial of the sweep with the same effective settings: its measurement counts for both."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.core import readable, resolved
from pipeline.core.files import SweepDir
from pipeline.core.findings import Verdict
from pipeline.core.record import Record
from pipeline.core.schema import Config

_read: dict[Path, Record | None] = {}  # a sweep in one process reads each record once


def by_rules(sweep: SweepDir, config: Config, verdict: Verdict) -> Record | None:
    """A measured trial with the same knobs after rewriting, known before anything is deployed."""
    for record in measured(sweep):
        knobs = record.verdict.knobs if record.verdict else record.config.knobs
        if knobs == verdict.knobs and resolved.differ_in_knobs_only(config, record.config):
            return record
    return None


def by_settings(sweep: SweepDir, config: Config, settings: Mapping[str, Any] | None) -> Record | None:
    """A measured trial whose engine reported the same settings as this one's."""
    alike = resolved.are_alike
    found = (record for record in measured(sweep) if alike(config, settings, record.config, record.settings))
    return next(found, None) if settings else None


def measured(sweep: SweepDir) -> Iterator[Record]:
    """The trials of the sweep that were measured themselves, in full."""
    for path in sweep.records:
        if path not in _read:
            _read[path] = _load(path)
        record = _read[path]
        if record and record.status == "ok" and record.same_as is None and not record.is_raced:
            yield record


def _load(path: Path) -> Record | None:
    try:
        return readable.read(Record, path)
    except (OSError, ValidationError):  # of another version, or being written: then it is no twin
        return None
