"""Checks what one key is swept over, quickly, however long it is: lists, ranges and intervals."""

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep, Sweep
from omegaconf import DictConfig

from pipeline.config import endpoints, nested, sweepers
from pipeline.config.knobs import check_setting
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.engines import one_node

LONGEST = 10_000  # values of one key: each is a trial of a grid, and is checked before the first starts
PARSER = OverridesParser.create()


def check(override: Override, base: Config, sweeper: DictConfig) -> None:
    """Accept values that the sweeper can go through, each of which the key can take if it is a knob.

    Raises:
        ConfigError: with what to write instead.
    """
    if isinstance(override.value(), IntervalSweep):
        _check_interval(override, base, sweeper)
    name = override.get_key_element()
    if name in base.knobs and base.backend.is_endpoint:
        raise ConfigError(endpoints.why_not(name))
    if name in base.knobs:
        for setting in _settings(name, override):
            made = nested.settings(name, setting, base.runtime)
            for each, item in made.items():
                check_setting(each, base.runtime, item)
            one_node.insist(replace(base, knobs={**base.knobs, **made}))


def again(override: Override) -> Iterator[str]:
    """That values are there more than once, which `tuner` measures once."""
    if not override.is_sweep_override() or not override.is_choice_sweep():
        return
    for pick, count in Counter(sweepers.values_of(override)).items():
        if count > 1:
            often = "twice" if count == 2 else f"{count} times"
            yield (
                f"{override.get_key_element()}={pick} is there {often}, and is measured as one configuration. "
                "hydra.sweeper.repeats=2 measures each configuration twice"
            )


def check_shape(override: Override) -> None:
    """Refuse what Hydra reads and no sweeper goes through, before anything asks for its values.

    Raises:
        ConfigError: with what to write instead.
    """
    if not override.is_sweep_override():
        return
    _check_kind(override)
    if not isinstance(override.value(), IntervalSweep):
        _check_length(override)


def _check_kind(override: Override) -> None:
    found: Any = override.value()
    line, key = override.input_line, override.get_key_element()
    if isinstance(found, Glob):
        group = CONF / key.partition("@")[0]
        names = found.filter(sorted(path.stem for path in group.glob("*.yaml")))
        right = ": " + shlex.quote(f"{key}={','.join(names)}") if names else ", with commas between them."
        raise ConfigError(f"{line}: glob() is not supported; list the values{right}")
    if isinstance(found, ChoiceSweep) and any(isinstance(one, Sweep) for one in found.list):
        raise ConfigError(f"{line}: a range, a choice or an interval cannot be one value of a list; list every value.")


def _check_length(override: Override) -> None:
    line, key = override.input_line, override.get_key_element()
    size = sweepers.size_of(override)
    if size == 0:
        raise ConfigError(f"{line} gives no value.")
    if size <= LONGEST:
        return
    found, end = override.value(), ""
    if isinstance(found, RangeSweep) and all(type(each) is int for each in (found.start, found.stop)):
        low, high = sorted((found.start, found.stop - 1))  # type: ignore[type-var, operator]
        end = " or search: " + shlex.quote(f"{key}=int(interval({low},{high}))") + " hydra.sweeper.n_trials=30"
    count = f"{size} values" if size < math.inf else "values without an end"
    raise ConfigError(f"{line} gives {count}, each a trial; at most {LONGEST} are taken. Take larger steps,{end}.")


def _check_interval(override: Override, base: Config, sweeper: DictConfig) -> None:
    """Refuse an interval for a sweeper that cannot draw from it, and one of fractions for a knob of integers."""
    interval: Any = override.value()
    line, name = override.input_line or "", override.get_key_element()
    if not sweepers.is_optuna(sweeper):
        raise ConfigError(f"{line}: this sweeper cannot search an interval. Use hydra/sweeper=tuner, the default.")
    if not (math.isfinite(interval.start) and math.isfinite(interval.end)):
        raise ConfigError(f"{line}: expected an interval between two numbers.")
    if interval.start > interval.end:
        right = re.sub(r"interval\(([^,()]+),([^,()]+)\)", r"interval(\2,\1)", "".join(line.split()))
        raise ConfigError(f"{line}: the lower end comes first: {shlex.quote(right)}")
    if name in base.knobs and base.runtime.knobs[name].kind == "int" and not isinstance(interval.start, int):
        ends = f"{interval.start:.15g},{interval.end:.15g}"
        raise ConfigError(f"{line} gives fractions, but {name} takes integers: use '{name}=int(interval({ends}))'.")


def _settings(name: str, override: Override) -> Iterator[Any]:
    """The values; whole numbers without Hydra's parser, which takes a millisecond for each."""
    for pick in sweepers.values_of(override):
        yield int(pick) if re.fullmatch(r"-?\d{1,18}", pick) else PARSER.parse_override(f"{name}={pick}").value()
