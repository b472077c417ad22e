"""`hydra.sweeper.learn_from`: earlier sweeps, read from their folders and held against what this one searches."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field, ValidationError

from pipeline.core import objectives, readable
from pipeline.core.errors import ConfigError
from pipeline.core.files import SweepDir
from pipeline.core.record import Record
from pipeline.core.schema import Config
from pipeline.core.values import Scalar, value
from pipeline.report import answered, ranking
from pipeline.sweep.search import outcome
from pipeline.sweep.search.space import LEFT, Params, Space, spelled
from pipeline.sweep.search.strategy.earlier import Earlier
from pipeline.sweep.search.strategy.told import Told

KEY = "hydra.sweeper.learn_from"
BESIDE = ("repeat_of", "phase", "rounds", "reason")  # overrides of a trial that say nothing of its configuration
LEAST = 3  # configurations with a result
EVERY = f"{KEY} changes nothing here, because every combination is run: set hydra.sweeper.n_trials to fewer."
EXPECTED = "Expected the folder of a sweep, such as outputs/2026-11-21_20-46-15."


@value
class Learned:
    """What there is to learn from."""

    earlier: tuple[Earlier, ...] = ()
    agreed: tuple[str, ...] = ()  # each folder with a fingerprint of its records: a resumed search has the same
    said: tuple[str, ...] = ()  # for people


@value
class Read:
    """One folder."""

    folder: Path
    earlier: Earlier
    what: str  # was measured
    failed: int
    fingerprint: str
    left_out: str = Field(default="")  # why nothing can be learned from it


def read(words: Sequence[str], space: Space, base: Config) -> Learned:
    """The sweeps in these folders. `base`: this sweep's configuration but for what it searches.

    Raises:
        ConfigError: one is no sweep's, holds no baseline with a result, or they have nothing in common with this one.
    """
    if not words:
        return Learned()
    if len(base.objective) > 1:
        raise ConfigError(f"{KEY} needs a single objective; this sweep has {', '.join(base.objective)}.")
    folders = [Path(word).resolve() for word in words]
    if twice := next((words[at] for at, one in enumerate(folders) if one in folders[:at]), None):
        raise ConfigError(f"{KEY} names {twice} twice.")
    found = [_read(folder, word, space, base) for folder, word in zip(folders, words, strict=True)]
    prints = [one.fingerprint for one in found]
    if copied := next((at for at, one in enumerate(prints) if one in prints[:at]), None):
        first = words[prints.index(prints[copied])]
        raise ConfigError(
            f"{KEY}: {words[copied]} is a copy of {first}: the same results would count twice. Leave it out."
        )
    used = [one for one in found if not one.left_out]
    if not used:
        raise ConfigError(f"{KEY}: there is nothing to learn. {' '.join(f'{one.left_out}.' for one in found)}")
    return Learned(
        earlier=tuple(one.earlier for one in used),
        agreed=tuple(f"{one.folder} {one.fingerprint}" for one in found),
        said=tuple(f"Learns nothing from {one.left_out}." if one.left_out else _said(one, space) for one in found),
    )


def insist_other(words: Sequence[str], own: str) -> None:
    """Refuse a sweep's own folder.

    Raises:
        ConfigError: it is among those to learn from.
    """
    if mine := next((word for word in words if Path(word).resolve() == Path(own).resolve()), None):
        raise ConfigError(f"{KEY} names {mine}, the folder of this sweep: what is in it counts as it is. Leave it out.")


def _read(folder: Path, word: str, space: Space, base: Config) -> Read:
    records, fingerprint = _records(folder, word)
    metric = objectives.names(base)[0]
    asked = [_as_asked(one, metric) for one in records if one.config.runtime.name == base.runtime.name]
    firsts = [one for one in asked if one.repeat_of is None]
    out = answered.barred(records).keys()
    trials = [(one, told) for one in asked if (told := _told(one, out)) is not None]
    earlier = Earlier(
        name=word,
        trials=tuple(told for _, told in trials),
        baseline=next(
            (told for one, told in trials if told.values and ranking.is_baseline(one, firsts)), Told(params={})
        ),
        elsewhere=_held(base, space),
        is_maximised=objectives.is_maximised(metric),
    )  # fmt: skip
    left_out = _left_out(word, records, earlier, space, base)
    if not left_out and not earlier.baseline.params:
        raise ConfigError(
            f"{KEY}: {word} has no baseline with a result of {metric}: nothing there can be told against the engine's "
            f"defaults. {EXPECTED}"
        )
    failed = sum(one.is_crash for one in earlier.trials)
    return Read(folder=folder, earlier=earlier, what=_what(records[0]), failed=failed, fingerprint=fingerprint,
                left_out=left_out)  # fmt: skip


def _records(folder: Path, word: str) -> tuple[list[Record], str]:
    """The records of the search itself and of its repeats, and a fingerprint of all there are."""
    if not folder.is_dir():
        raise ConfigError(f"{KEY}: {word} is no folder. {EXPECTED}")
    found, prints = [], hashlib.sha256()
    for path in SweepDir(folder).records:
        try:
            one = readable.read(Record, path)
            prints.update(f"{one.number} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        except (OSError, ValidationError) as error:
            raise ConfigError(
                f"{KEY}: {path} cannot be read: {readable.why(path, error)}. Leave {word} out, or remove "
                "that trial's folder."
            ) from error
        found.append(one)
    if not found:
        raise ConfigError(f"{KEY}: {word} holds no trials (*/record.json). {EXPECTED}")
    own = [one for one in found if one.phase != "held_out" and one.same_as is None]
    return sorted(own, key=lambda one: one.number), prints.hexdigest()[:16]


def _as_asked(record: Record, metric: str) -> Record:
    """The record as if this sweep's objective had been its own."""
    if objectives.names(record.config)[0] == metric:
        return record
    return replace(record, config=replace(record.config, objective=(metric,)), objective=None, best_level=None)


def _told(record: Record, barred: Collection[int]) -> Told | None:
    """What a record says; None where it says nothing of its configuration. `barred`: who cannot win, by its answers."""
    if record.status not in {"ok", "failed"}:
        return None
    found = outcome.of(record)
    if {record.number, record.repeat_of} & {*barred}:
        found = outcome.barred(found)
    told = found.attributes
    resolved, outside, failure = told.get("resolved"), told.get("outside"), told.get("failure")
    return Told(
        params=_params(record),
        values=found.values[:1],
        is_feasible=all(amount <= 0 for amount in found.constraints.values()),
        outside=float(outside) if isinstance(outside, int | float) else None,
        failure=str(failure) if failure else None,
        resolved=resolved if isinstance(resolved, Mapping) else {},  # type: ignore[arg-type]
    )


def _params(record: Record) -> dict[str, Scalar]:
    """Every knob of the engine, and what else the sweep has set."""
    pairs = (word.lstrip("+").partition("=") for word in record.overrides)
    others = {name: text for name, _, text in pairs if name not in BESIDE}
    knobs = {name: LEFT if pick is None else spelled(pick) for name, pick in record.config.knobs.items()}
    return {**others, **knobs}


def _held(base: Config, space: Space) -> Params:
    """The knobs that this sweep sets and does not search."""
    return {name: spelled(pick) for name, pick in base.knobs.items() if pick is not None and name not in space.names}


def _left_out(word: str, records: Sequence[Record], earlier: Earlier, space: Space, base: Config) -> str:
    engines = {one.config.runtime.name for one in records}
    if base.runtime.name not in engines:
        return f"{word}: a sweep of {', '.join(sorted(engines))}, and this one is of {base.runtime.name}"
    if not {*earlier.varied} & {*space.names}:
        varied = ", ".join(earlier.varied) or "nothing"
        return f"{word}: it varied {varied}, and nothing of what is searched here ({', '.join(space.names)})"
    count = len({tuple(sorted(one.params.items())) for one in earlier.measured})
    if count < LEAST:
        return f"{word}: {count} configurations have a result, and it takes {LEAST}"
    return ""


def _what(record: Record) -> str:
    config = record.config
    return f"{config.model.name} on {config.hardware.name}, traffic {config.traffic.name}"


def _said(one: Read, space: Space) -> str:
    """One sweep in a line."""
    shared = [name for name in space.names if name in one.earlier.varied]
    more = [name for name in one.earlier.varied if name not in space.names]
    told = f"{one.earlier.name}: {len(one.earlier.measured)} results"
    failed = f" and {one.failed} failures" if one.failed else ""
    beside = f"; it also varied {', '.join(more)}" if more else ""
    return f"Learns from {told}{failed} over {', '.join(shared)} ({one.what}){beside}."
