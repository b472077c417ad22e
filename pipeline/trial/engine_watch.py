"""Reads an engine's /metrics around and during a level. It never costs a level: what does not answer is left alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.core import engine_metrics, engine_times
from pipeline.core.engine_metrics import Reading, Seen
from pipeline.core.record import Level
from pipeline.core.schema_engine import Tells
from pipeline.engines import metrics
from pipeline.engines.exposition import Unanswered
from pipeline.engines.http import QUICK_S
from pipeline.machine.sampler import Sampler

NAME = "engine_metrics.json"  # in the level's folder
DURING_S = 2.0


@dataclass
class EngineWatch:
    """One engine, level after level. `version`: the engine's. An engine that hangs while it is idle is asked once."""

    url: str
    tells: Tells
    version: str | None
    idle_s: float = QUICK_S  # that an answer may take before and after a level
    during_s: float = DURING_S  # while the engine works
    given_up: str | None = None  # why it is not asked any more

    def read(self) -> tuple[Reading | None, str | None]:
        """What an idle engine tells, or why it does not."""
        if self.given_up or self.tells.metrics_path is None:
            return None, self.given_up
        try:
            return metrics.read(self.url, self.tells, self.version, timeout_s=self.idle_s), None
        except Unanswered as error:
            words = f"{self.tells.metrics_path}: {error}"
            if error.is_slow:
                words = self.given_up = f"{words}; not asked again"
            return None, words

    def glance(self) -> Reading | None:
        """What a busy engine tells; None where it does not."""
        try:
            return metrics.read(self.url, self.tells, self.version, timeout_s=self.during_s)
        except Unanswered:
            return None

    @contextmanager
    def level(self) -> Iterator["LevelWatch"]:
        """Sample it in this scope, if it answers at all."""
        before, missing = self.read()
        sampler = Sampler(self.glance)
        watch = LevelWatch(self, before, missing, sampler)
        if before is not None:
            sampler.start()
        try:
            yield watch
        finally:
            watch.samples = sampler.end()


@dataclass
class LevelWatch:
    """What was read of one level."""

    engine: EngineWatch
    before: Reading | None
    missing: str | None
    sampler: Sampler[Reading]
    samples: tuple[tuple[float, Reading], ...] = field(default=())

    def told(self, level: Level, folder: Path, run_dir: Path) -> Level:
        """The level with what the engine said of it, compared with what we measured. The samples go into `folder`."""
        seen = self.seen()
        summary = engine_metrics.summary(seen, level.metrics)
        clocks = [each.clocks if each else None for each in (seen.before, seen.after)]
        level = engine_times.compared(level, engine_times.between(*clocks))
        if summary is None:
            return level
        summary = replace(summary, series_file=_kept(seen, folder / NAME, run_dir))
        apart = tuple(engine_metrics.disagreements(summary, level.metrics)) if level.metrics else ()
        words = (f"counts differ: {'; '.join(apart)}",) if apart else ()
        return replace(level, engine_metrics=summary, warnings=(*level.warnings, *words))

    def seen(self) -> Seen:
        """All that was read, with a last reading now."""
        after, missing = self.engine.read() if self.before is not None else (None, self.missing)
        looks = self.sampler.looks
        if missing is None and looks and not self.samples:
            missing = f"{self.engine.tells.metrics_path} did not answer while the engine worked ({looks} times asked)"
        return Seen(before=self.before, samples=self.samples, after=after, missing=missing)


def _kept(seen: Seen, path: Path, run_dir: Path) -> str | None:
    """Where the samples are kept; None where there are none, or they cannot be written: the summary has what counts."""
    if not seen.samples:
        return None
    try:
        path.write_text(json.dumps(engine_metrics.rows(seen)), "utf-8")
    except OSError:
        return None
    return str(path.relative_to(run_dir))
