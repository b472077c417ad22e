"""Landscapes of files: npz, CSV or Parquet with a row for each configuration.

CSV and Parquet: every column is a knob but `score` (more is better; empty where it fails), `failure` (its kind),
`crash` (1: it fails), `startup_s`, `default` (1: the engine's defaults), `score@LEVEL` and `seconds@LEVEL` of levels,
and remarks, whose names begin with `_`. Rows of the same combination are repeats.
npz: `X` (rows x knobs: indices of values), `score`, and `meta`, JSON with `knobs: [{name, values}]`; `crash`; for each
level `thr`, `conc` and `lat` (shares of the limit; all zero: none).
"""

import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import ConfigError
from pipeline.core.values import value
from pipeline.replay import costs
from pipeline.replay.landscape import Landscape, Numbers, Picks, check, default_row
from pipeline.sweep.search.space import Choice, Space, number_of

SUFFIXES = (".npz", ".csv", ".parquet")
OWN = ("failure", "crash", "startup_s", "default")  # columns that are no knobs, beside the score
REMARK = "_"  # the first letter of a column that is for people
SPEED, SECONDS = "score@", "seconds@"  # columns of a level, by its name


@value
class Options:
    """What is told of sources that do not say it themselves."""

    score: str = "score"  # the column
    noise: float | None = None
    default_at: float | None = None  # share of the best; None: the table's own, else a decent one


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """What a file says."""

    names: tuple[str, ...]
    picks: Sequence[Picks]
    score: Numbers
    failed: Any = None  # of each row, a boolean
    failure: Sequence[str] | None = None
    startup_s: Numbers | None = None
    default: int | None = None
    speed: Numbers | None = None  # rows x levels, as the two below
    latency: Numbers | None = None
    level_s: Numbers | None = None
    levels: tuple[str, ...] = ()
    noise: float | None = None
    source: str = ""
    values: tuple[tuple[str, ...], ...] | None = None  # of each knob, in their order


def read(path: Path, options: Options) -> Landscape:
    """The landscape in a file.

    Raises:
        ConfigError: it is no table that can be searched.
    """
    name = path.stem
    try:
        raw = _npz(path) if path.suffix == ".npz" else _columns(path, options)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read: {_words(error)}. Expected a table as in docs/replay.md.") from error
    return made(name, "table", raw, options)


def _words(error: Exception) -> str:
    told = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
    return (told.splitlines() or [type(error).__name__])[0].rstrip(".")


def made(name: str, kind: Any, raw: Raw, options: Options) -> Landscape:
    """A landscape; what the file does not say is drawn.

    Raises:
        ConfigError: there is nothing to search.
    """
    space = Space(dimensions=_dimensions(raw)) if raw.names and len(raw.picks) else Space(dimensions=())
    truth = np.where(_failed(raw), np.nan, raw.score)
    check(name, truth, space)
    count = len(raw.levels) or costs.level_count(name)
    own = costs.drawn(name, len(truth), count)
    startup = own.startup_s if raw.startup_s is None else _filled(raw.startup_s)
    crash_s = own.crash_s * startup / own.startup_s
    failed = ~np.isfinite(truth)
    noise = next(seen for seen in (options.noise, raw.noise, own.noise) if seen is not None)
    given = None if options.default_at is not None else raw.default
    return Landscape(
        name=name,
        kind=kind,
        source=raw.source,
        space=space,
        picks=raw.picks,
        rows={picks: row for row, picks in enumerate(raw.picks)},
        truth=truth,
        levels=raw.levels or tuple(f"level {at + 1}" for at in range(count)),
        speed=costs.speeds(name, truth, count) if raw.speed is None else raw.speed,
        latency=raw.latency,
        startup_s=startup,
        level_s=own.level_s if raw.level_s is None else _like_others(raw.level_s, own.level_s),
        failure=_failures(raw, failed, startup, crash_s),
        crash_s=crash_s,
        noise=noise,
        default=default_row(truth, costs.dice_of(name, 4), at=options.default_at) if given is None else given,
    )


def _failed(raw: Raw) -> Any:
    missing = ~np.isfinite(raw.score)
    return missing if raw.failed is None else missing | raw.failed


def _failures(raw: Raw, failed: Any, startup_s: Numbers, crash_s: Numbers) -> tuple[str, ...]:
    drawn = costs.kinds(failed, startup_s, crash_s)
    if raw.failure is None:
        return drawn
    return tuple((said or own) if own else "" for said, own in zip(raw.failure, drawn, strict=True))


def _filled(seconds: Numbers) -> Numbers:
    """What is missing is like the others."""
    fine = seconds[np.isfinite(seconds) & (seconds > 0)]
    if not len(fine):
        raise ConfigError("startup_s has no number above 0. Leave the column out to have start-up times drawn.")
    return np.where(np.isfinite(seconds) & (seconds > 0), seconds, np.median(fine))


def _like_others(seconds: Numbers, drawn: Numbers) -> Numbers:
    """A level that was not measured takes as long as it takes others; one that nobody measured, as long as is drawn."""
    known = np.isfinite(seconds)
    usual = [np.median(seconds[known[:, at], at]) if known[:, at].any() else np.nan for at in range(seconds.shape[1])]
    filled = np.where(known, seconds, np.array(usual))
    return np.where(np.isfinite(filled), filled, drawn)


def _dimensions(raw: Raw) -> tuple[Choice, ...]:
    columns = [*zip(*raw.picks, strict=True)]
    listed = raw.values or [_ordered({*column}) for column in columns]
    return tuple(Choice(name=name, values=values) for name, values in zip(raw.names, listed, strict=True))


def _ordered(values: set[str]) -> tuple[str, ...]:
    """Numbers by their size, then words."""
    return tuple(sorted(values, key=lambda one: (number_of(one) is None, number_of(one) or 0.0, one)))


def _npz(path: Path) -> Raw:
    with np.load(path, allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
        cells, score = file["X"], file["score"].astype(float)
        seen = {name: file[name] for name in ("crash", "thr", "lat", "conc") if name in file.files}
    knobs = meta["knobs"]
    if cells.ndim != 2 or cells.shape != (len(score), len(knobs)):
        raise ValueError(f"X has the shape {cells.shape}, but there are {len(score)} scores and {len(knobs)} knobs")
    values = tuple(tuple(map(str, knob["values"])) for knob in knobs)
    latency = seen["lat"].astype(float) if np.any(seen.get("lat", 0)) else None
    return Raw(
        names=tuple(str(knob["name"]) for knob in knobs),
        picks=[tuple(values[knob][at] for knob, at in enumerate(row)) for row in cells],
        score=score,
        failed=seen["crash"].astype(bool) if "crash" in seen else None,
        speed=seen["thr"].astype(float) if "thr" in seen else None,
        latency=latency,
        levels=tuple(f"x{load:g}" for load in seen["conc"]) if "thr" in seen else (),
        default=meta.get("default"),
        source=str(meta.get("source", path.name)),
        values=values,
    )


def _columns(path: Path, options: Options) -> Raw:
    """A CSV or Parquet file."""
    import pandas as pd

    found = pd.read_csv(path, dtype=str, keep_default_na=False) if path.suffix == ".csv" else _parquet(path)
    if options.score not in found.columns:
        known = ", ".join(map(str, found.columns)) or "none"
        raise ConfigError(f"{path} has no column {options.score}. Its columns: {known}. Name the score's with --score.")
    own = [name for name in OWN if name in found.columns]
    levels = [name.removeprefix(SPEED) for name in map(str, found.columns) if name.startswith(SPEED)]
    names = tuple(name for name in map(str, found.columns) if _is_knob(name) and name not in {*own, options.score})
    cells = [tuple(row) for row in found[[*names]].to_numpy()]
    numbers = {name: _numbers(name, found[name]) for name in (options.score, *own) if name != "failure"}
    score = numbers[options.score]
    return _merged(
        Raw(
            names=names,
            picks=cells,
            score=score,
            failed=_said_to_fail(numbers, found, own),
            failure=[*found["failure"]] if "failure" in own else None,
            startup_s=numbers.get("startup_s"),
            default=_flagged(numbers.get("default"), cells),
            speed=_of_levels(SPEED, levels, found),
            level_s=_of_levels(SECONDS, levels, found),
            levels=tuple(levels),
            source=path.name,
        )
    )


def _is_knob(column: str) -> bool:
    return not column.startswith((REMARK, SPEED, SECONDS))


def _of_levels(what: str, levels: Sequence[str], found: Any) -> Numbers | None:
    """The columns of one kind, a level each; None: there are none."""
    names = [f"{what}{level}" for level in levels]
    if not any(name in found.columns for name in names):
        return None
    if missing := [name for name in names if name not in found.columns]:
        raise ValueError(f"there is no column {missing[0]}, but one for another level")
    return np.column_stack([_numbers(name, found[name]) for name in names])


def _said_to_fail(numbers: Mapping[str, Numbers], found: Any, own: Sequence[str]) -> Any:
    """Which rows fail: those that say so, in whichever column; None: no column does."""
    said = [np.nan_to_num(numbers["crash"]) > 0] if "crash" in numbers else []
    said += [np.asarray(found["failure"].str.strip() != "", dtype=bool)] if "failure" in own else []
    return np.logical_or.reduce(said) if said else None


def _numbers(name: str, cells: Any) -> Numbers:
    """A column of numbers; empty ones are missing."""
    try:
        found = np.array([float(cell or "nan") for cell in cells])
    except ValueError as error:
        raise ValueError(f"column {name}: {error}") from error
    if np.isinf(found).any():
        raise ValueError(f"column {name}: {found[np.isinf(found)][0]}: expected finite numbers")
    return found


def _parquet(path: Path) -> Any:
    import pandas as pd

    found = pd.read_parquet(path)
    return found.astype(object).where(found.notna(), "").map(str)


def _flagged(column: Numbers | None, picks: Sequence[Picks]) -> int | None:
    """The first row that is said to be the default."""
    rows = [] if column is None else [row for row, flag in enumerate(column) if flag > 0]
    if len({picks[row] for row in rows}) > 1:
        raise ValueError(f"column default: {len(rows)} rows have a 1: expected one")
    return next(iter(rows), None)


def _merged(raw: Raw) -> Raw:
    """Repeats of a combination become one row: their mean; how far they lie apart is the noise."""
    groups: dict[Picks, list[int]] = {}
    for row, picks in enumerate(raw.picks):
        groups.setdefault(picks, []).append(row)
    if len(groups) == len(raw.picks):
        return raw
    firsts = [rows[0] for rows in groups.values()]
    of = {row: at for at, rows in enumerate(groups.values()) for row in rows}
    same = [*groups.values()]
    return Raw(
        names=raw.names,
        picks=[*groups],
        score=_means(raw.score, same),
        failed=None if raw.failed is None else np.array([raw.failed[rows].all() for rows in same]),
        failure=None if raw.failure is None else [raw.failure[row] for row in firsts],
        startup_s=None if raw.startup_s is None else _means(raw.startup_s, same),
        default=None if raw.default is None else of[raw.default],
        speed=None if raw.speed is None else _means(raw.speed, same),
        level_s=None if raw.level_s is None else _means(raw.level_s, same),
        levels=raw.levels,
        noise=pooled([raw.score[rows] for rows in same]),
        source=raw.source,
    )


def _means(numbers: Numbers, groups: Sequence[Sequence[int]]) -> Numbers:
    """The mean of each group of rows, without what is missing."""
    with warnings.catch_warnings(category=RuntimeWarning, action="ignore"):  # that all of a group is missing
        return np.array([np.nanmean(numbers[rows], axis=0) for rows in groups])


def pooled(scores: Sequence[Numbers]) -> float | None:
    """The standard deviation of the logarithm of repeats; None without any."""
    logs = [np.log(seen[np.isfinite(seen) & (seen > 0)]) for seen in scores]
    squares = sum(float(np.sum((one - one.mean()) ** 2)) for one in logs if len(one) > 1)
    free = sum(len(one) - 1 for one in logs if len(one) > 1)
    return float(np.sqrt(squares / free)) if free else None
