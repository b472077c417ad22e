"""What is swept, and what the chosen sweeper and launcher do with it. Pure."""

import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, ListConfig, OmegaConf

from pipeline.config import endpoints, one_node
from pipeline.core import objectives
from pipeline.core.errors import ConfigError
from pipeline.core.limits import settings_of
from pipeline.core.schema import Config

LOAD = ("traffic", "slo", "objective")  # groups that do not reach the server, but for rules
STREAMING = ("BasicLauncher", "parallel", "slurm")  # launchers that `tuner` gives one trial at a time
HERE = ("BasicLauncher", "launchers.parallel", "submitit_local", "Joblib")  # launchers of this machine's processes
PASSWORD = re.compile(r"://[^/@]*:[^/@]+@")


def values_of(override: Override) -> Iterator[str]:
    """The values of a sweep as text; an interval's ends."""
    interval = override.value()
    if isinstance(interval, IntervalSweep):
        yield from (f"{interval.start:.15g}", f"{interval.end:.15g}")
    else:
        is_url = override.get_key_element() == endpoints.URL
        picks = override.sweep_string_iterator()
        yield from (endpoints.base(pick.replace("\\:", ":")) for pick in picks) if is_url else picks


def size_of(override: Override) -> int | float:
    """How many values there are, without going through them; infinite for an interval, or a range without an end."""
    found = override.value()
    if isinstance(found, IntervalSweep):
        return math.inf
    if not isinstance(found, RangeSweep):
        return len(list(values_of(override)))
    start, stop, step = (0.0 if each is None else float(each) for each in (found.start, found.stop, found.step))
    if not step or math.isnan(start + stop + step):
        return 0
    steps = (stop - start) / step
    return max(0, math.ceil(steps)) if math.isfinite(steps) else max(0.0, steps)


def line_of(override: Override, pick: str | None) -> str:
    """The override as one fixed choice: `pick`, or its first value."""
    if not override.is_sweep_override():
        return override.input_line or ""
    try:
        pick = pick if pick is not None else next(values_of(override))
    except (StopIteration, ValueError) as error:  # an empty range, a step of 0
        raise ConfigError(f"{override.input_line} gives no value.") from error
    return f"{override.get_key_element()}={pick}"


def is_optuna(sweeper: DictConfig) -> bool:
    """Whether Optuna picks the trials."""
    return "optuna" in str(sweeper.get("_target_")) or is_tuner(sweeper)


def is_tuner(sweeper: DictConfig) -> bool:
    """Whether it is our own sweeper."""
    return "pipeline.sweep.tuner" in str(sweeper.get("_target_"))


def count(swept: Iterable[Override], sweeper: DictConfig) -> int | None:
    """How many configurations the sweeper will run; None where only time limits it."""
    dimensions = [override for override in swept if override.is_sweep_override()]
    apart = set if is_tuner(sweeper) else list  # which measures once what is there twice
    size = math.prod(len(apart(values_of(each))) for each in dimensions if each.is_discrete_sweep())
    wanted = sweeper.get("n_trials")
    is_endless = is_tuner(sweeper) and not all(each.is_discrete_sweep() for each in dimensions)
    if wanted is None:
        return None if is_endless else size
    is_grid = "Grid" in str(OmegaConf.select(sweeper, "sampler._target_"))
    return min(wanted, size) if is_grid or (is_tuner(sweeper) and not is_endless) else int(wanted)


def baseline(swept: Mapping[str, Override], tree: DictConfig) -> tuple[str, ...] | None:
    """The picks of `tuner`'s baseline: null for each swept knob, the first of several servers that are there.

    None where neither is swept, or no baseline is wanted.
    """
    names = {name for name, each in swept.items() if each.is_sweep_override()}
    knobs = {*tree.runtime.knobs} & names
    if not (is_tuner(tree.hydra.sweeper) and tree.hydra.sweeper.baseline and (knobs or endpoints.URL in names)):
        return None
    dimensions = ((name, each) for name, each in swept.items() if each.is_sweep_override())
    return tuple("null" if name in knobs else next(values_of(each)) for name, each in dimensions)


def configurations(swept: Mapping[str, Override], tree: DictConfig) -> int | None:
    """The same as `count`, plus the baseline if the space does not contain it."""
    seen, base = count(swept.values(), tree.hydra.sweeper), baseline(swept, tree)
    if seen is None or base is None:
        return seen
    dimensions = [each for each in swept.values() if each.is_sweep_override()]
    is_beside = any(
        not each.is_discrete_sweep() or pick not in values_of(each) for each, pick in zip(dimensions, base, strict=True)
    )
    return min(seen + is_beside, tree.hydra.sweeper.n_trials or math.inf)  # type: ignore[return-value]


def total(swept: Mapping[str, Override], tree: DictConfig) -> int | None:
    """How many trials the search will have; how many follow to confirm its contenders, their results decide."""
    seen, sweeper = configurations(swept, tree), tree.hydra.sweeper
    return int(seen * sweeper.repeats) if seen is not None and is_tuner(sweeper) else seen


def most(sweeper: DictConfig) -> int:
    """How many trials the search has at most, however many combinations there are."""
    wanted = sweeper.get("n_trials") or sys.maxsize
    return int(wanted * sweeper.repeats) if is_tuner(sweeper) else int(wanted)


def ordered(swept: Iterable[Override]) -> list[Override]:
    """The overrides in `tuner`'s order: those that do not reach the server vary fastest, so trials share a server."""
    return sorted(swept, key=lambda each: is_load(each.get_key_element()))


def is_load(name: str) -> bool:
    """Whether a key says how the server is loaded and judged, not what it is."""
    return name.split(".", maxsplit=1)[0] in LOAD


def runs_elsewhere(launcher: DictConfig) -> bool:
    """Whether trials run on other machines, so that this one does not tell what hardware=auto is."""
    return "slurm" in str(launcher.get("_target_")).lower()


def runs_here(launcher: DictConfig) -> bool:
    """Whether trials certainly run on this machine; a launcher of somebody else's may send them anywhere."""
    return any(name in str(launcher.get("_target_")) for name in HERE)


def reuses(swept: Iterable[str], launcher: DictConfig) -> bool:
    """Whether trials of this process may differ in their load alone: then a server can be theirs in turn."""
    is_here = "BasicLauncher" in str(launcher.get("_target_"))
    return is_here and any(map(is_load, swept))


def check_tuner(tree: DictConfig, base: Config, swept: Iterable[Override]) -> None:
    """Refuse settings of `tuner` that cannot be used, never end, or would put a password on disk.

    Raises:
        ConfigError: with what to set instead.
    """
    written: Any = OmegaConf.to_container(tree.hydra, resolve=False)
    if PASSWORD.search(str(written["sweeper"]["storage"])):
        raise ConfigError(
            "hydra.sweeper.storage contains a password, and the configuration is written to disk. Pass it through "
            "the environment: export STUDY_URL=..., and set hydra.sweeper.storage='${oc.env:STUDY_URL}'."
        )
    if (place := tree.hydra.sweeper.storage) and not ("://" in place or place.endswith(".log")):
        raise ConfigError(
            f"hydra.sweeper.storage={place}: expected a database's URL, e.g. postgresql://host/name, or the path of "
            f"a journal ending in .log."
        )
    if (given := written["sweep"]["subdir"]) != "${hydra.job.num}":
        raise ConfigError(f"hydra.sweep.subdir={given}: hydra/sweeper=tuner needs ${{hydra.job.num}}, the default.")
    limits = settings_of(tree.hydra.sweeper).limits
    if limits.gpu_hours and base.hardware.is_cpu:
        raise ConfigError(f"hydra.sweeper.gpu_hours={limits.gpu_hours:g}: hardware={base.hardware.name} has no GPU.")
    if count(swept, tree.hydra.sweeper) is None and not (limits.timeout_s or limits.gpu_hours):
        raise ConfigError("This search would never end: set hydra.sweeper.n_trials, timeout_s or gpu_hours.")


def check_engines(parts: Mapping[str, Any]) -> None:
    """Refuse to learn for several engines from sweeps of one.

    Raises:
        ConfigError: there are several, and earlier sweeps to learn from.
    """
    if len(parts) > 1 and any(part.tree.hydra.sweeper.get("learn_from") for part in parts.values()):
        raise ConfigError(f"hydra.sweeper.learn_from: expected a sweep of one engine, seen {', '.join(parts)}.")


def check_directions(base: Config, sweeper: DictConfig) -> None:
    """Refuse directions of Optuna's that contradict the objectives.

    Raises:
        ConfigError: with the directions that fit.
    """
    direction = sweeper.get("direction")
    if direction is None:
        return
    names = objectives.names(base)
    wanted = ["maximize" if objectives.is_maximised(name) else "minimize" for name in names]
    seen = list(direction) if isinstance(direction, ListConfig) else [direction]
    given = [str(getattr(item, "name", item)) for item in seen]
    if given != wanted:
        raise ConfigError(
            f"hydra.sweeper.direction={given} does not fit objective={list(names)}: "
            f"set 'hydra.sweeper.direction=[{','.join(wanted)}]'."
        )


def check_launcher(launcher: DictConfig, sweeper: DictConfig) -> None:
    """Refuse a number of trials at once that `parallel` cannot have, or that the sweeper does not use.

    Raises:
        ConfigError: with what to set.
    """
    target = str(launcher.get("_target_"))
    if is_tuner(sweeper) and sweeper.n_jobs is None and not any(name in target for name in STREAMING):
        raise ConfigError(
            f"{target.rsplit('.', 1)[-1]} runs trials in batches: add hydra.sweeper.n_jobs=2, or another number of "
            f"trials at once (or hydra/sweeper=basic to run all at once)."
        )
    one_node.check_launcher(launcher)
    if "submitit" in target:
        _check_jobs(launcher)
    if "parallel" not in target:
        return
    count = launcher.n_jobs
    if count is not None and (type(count) is not int or count < 1):
        raise ConfigError(
            f"hydra.launcher.n_jobs={count}: expected an integer, 1 or more (trials at once), or null (one per GPU)."
        )
    if count != 1 and sweeper.get("n_jobs") == 1:
        raise ConfigError(
            f"Add hydra.sweeper.n_jobs={count or 2}, the number of trials to run at once: "
            "this sweeper asks for one trial at a time, so nothing would run in parallel."
        )


def _check_jobs(launcher: DictConfig) -> None:
    for name in ("array_parallelism", "poll_s", "timeout_min", "pending_timeout_min", "silent_timeout_min"):
        seen = launcher.get(name, 1)
        if seen is None and name in {"pending_timeout_min", "silent_timeout_min"}:  # no limit
            continue
        if type(seen) not in {int, float} or seen <= 0 or (name == "array_parallelism" and seen != int(seen)):
            raise ConfigError(f"hydra.launcher.{name}={seen}: expected a number above 0.")
