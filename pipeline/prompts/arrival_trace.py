"""Reads a file of arrival times, which an open loop sends requests at: lines of seconds, or JSON lines.

The JSON lines are those of Mooncake's traces, with `timestamp` in milliseconds (FAST 2025,
https://github.com/kvcache-ai/Mooncake, FAST25-release/traces); other loaders replay the same files.
"""

import hashlib
import json
import math
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pipeline.core.arrivals import mean_rate
from pipeline.core.errors import ConfigError
from pipeline.core.schema_traffic import Trace, Traffic

FIELD, FIELD_PER_S = "timestamp", 1000.0
JSON_LINES = (".jsonl", ".ndjson")
FEWEST = 2  # arrivals that make a rate
SHORTEST_S = 1e-6  # from first to last: no computer is sent requests faster
LATEST_S = 1e10  # a time of day in seconds is less; in milliseconds it is more
MB = 1_000_000
EXPECTED = "expected a number of seconds"
EXPECTED_JSON = f'expected an object with "{FIELD}", a number of milliseconds'


def survey(traffic: Traffic) -> Trace:
    """What is in the file of a traffic.

    Raises:
        ConfigError: the file cannot be used; with the first line that is wrong.
    """
    sha256, found = _read(traffic)
    return Trace(sha256=sha256, arrivals=len(found), rate=mean_rate(found))


def times(traffic: Traffic) -> tuple[float, ...]:
    """The recorded times in seconds, in their order.

    Raises:
        ConfigError: the file cannot be read any more, or is another one than when the trial began.
    """
    sha256, found = _read(traffic)
    if traffic.recorded is not None and sha256 != traffic.recorded.sha256:
        raise ConfigError(f"{traffic.trace} has changed since the trial began. Leave it as it is while a sweep runs.")
    return found


def _read(traffic: Traffic) -> tuple[str, tuple[float, ...]]:
    if traffic.trace is None:
        raise ConfigError("traffic.trace has no value: add traffic.trace=arrivals.txt, a file of arrival times.")
    path = traffic.trace.expanduser()
    try:
        seen = path.stat()
        if not stat.S_ISREG(seen.st_mode):
            raise ConfigError(f"traffic.trace={path} is not a file. Expected a file of arrival times.")
        if seen.st_size > traffic.max_file_mb * MB:
            raise ConfigError(
                f"{path} has {seen.st_size / MB:.0f} MB, and traffic.max_file_mb={traffic.max_file_mb:g}: cut it, or "
                f"set traffic.max_file_mb={-(-seen.st_size // MB)}."
            )
        return _parsed(path, seen.st_ino, seen.st_size, seen.st_mtime_ns)
    except FileNotFoundError as error:
        raise ConfigError(f"traffic.trace={path} does not exist in {Path.cwd()}.") from error
    except OSError as error:
        raise ConfigError(f"traffic.trace={path} cannot be read: {error.strerror or error}.") from error


@lru_cache(4)
def _parsed(path: Path, *_state: int) -> tuple[str, tuple[float, ...]]:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, byte {error.start} is none.") from error
    found = tuple(_times(path, text))
    if len(found) < FEWEST or found[-1] - found[0] < SHORTEST_S:
        alike = ", all alike" if len(found) >= FEWEST else ""
        raise ConfigError(f"{path} has {len(found)} arrival times{alike}: expected two or more, at different times.")
    return hashlib.sha256(data).hexdigest(), found


def _times(path: Path, text: str) -> Iterator[float]:
    is_json, before = path.suffix.lower() in JSON_LINES, -math.inf
    expected = EXPECTED_JSON if is_json else EXPECTED
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        at_s = _json(words) if is_json else _number(words)
        if at_s is None or not math.isfinite(at_s) or at_s < 0:
            raise ConfigError(f"{path}, line {number}: {expected}, got {words[:80]!r}.")
        if at_s > LATEST_S:
            raise ConfigError(f"{path}, line {number}: {expected}, got {words[:80]!r}: that is more than 300 years.")
        if at_s < before:
            raise ConfigError(f"{path}, line {number}: {at_s:.12g} s comes after {before:.12g} s: times must rise.")
        before = at_s
        yield at_s


def _number(words: str) -> float | None:
    try:
        return None if "_" in words else float(words)  # Python's own 1_0 is 10
    except ValueError:
        return None


def _json(words: str) -> float | None:
    try:
        given = json.loads(words).get(FIELD)
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        at_s = given / FIELD_PER_S if is_number else None
    except (ValueError, AttributeError, OverflowError, RecursionError):
        return None
    return at_s
