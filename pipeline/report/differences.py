"""What differs between sweeps: settings that a measurement depends on, and the machine; and what must not. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.core import capacity, objectives
from pipeline.core.record import Record
from pipeline.core.schema import Config, Model
from pipeline.core.values import plain, value
from pipeline.report import ranking, subject

KNOB, SEEN, DEFAULT, NOTHING = "knob.", "seen.", "default", "-"
SECTIONS = ("traffic", "slo", "runtime", "model", "hardware", "backend", "bench")
LEFT_OUT = {  # names, what follows from others, and what no measurement depends on
    *("traffic.name", "slo.name", "runtime.knobs", "runtime.rules", "runtime.health", "runtime.tells"),
    *("runtime.startup_s", "runtime.stop_grace_s", "runtime.memory", "runtime.image_gib", "runtime.secret_env"),
    *("model.name", "model.path", "model.package", "model.repo", "model.revision", "model.license", "model.gated"),
    *("model.arch", "model.unread", "backend.target", "backend.keeper", "backend.deploy_s", "hardware.seen_as"),
    *("bench.program", "bench.start_timeout_s", "bench.level_grace_s"),
}
BY_HAND = (  # what is worth telling of an engine or of hardware that is another one altogether
    *("runtime.name", "runtime.version", "runtime.extra_args", "runtime.image"),
    *("hardware.name", "hardware.gpu_count", "hardware.usd_per_gpu_hour", "hardware.cores_per_trial"),
)
HARMLESS = (  # parts of the traffic that do not change what a level asks of a server
    *("traffic.seed", "traffic.order", "traffic.all_levels", "traffic.warmup_requests", "traffic.precision"),
    *("traffic.max_time_per_level_s", "traffic.drain_s"),
)
OF_US = ("hydra-core", "optuna", "wandb", "python")  # packages that nothing measured depends on
MODEL, OBJECTIVE, ENGINE = "model", "objective", "engine"
MOST = 4  # values that are listed


@value
class Difference:
    """A setting that the sweeps do not share: what each of them had, in their order."""

    name: str
    values: tuple[str, ...]


class Told(NamedTuple):
    """The first trial of a configuration, and its settings."""

    record: Record
    settings: Mapping[str, str]


def told(records: Sequence[Record]) -> list[Told]:
    """The configurations of a sweep."""
    return [Told(one, settings(one.config)) for one in ranking.originals(records)]


def settings(config: Config) -> dict[str, str]:
    """What a trial was told, by name; knobs that are left to the engine are not in it."""
    told = {OBJECTIVE: ", ".join(objectives.names(config)), MODEL: source(config.model)}
    for section in SECTIONS:
        told |= dict(_flat(section, plain(getattr(config, section))))
    for name in _idle(config):
        told.pop(name, None)
    return told | {f"{KNOB}{name}": str(seen) for name, seen in config.knobs.items() if seen is not None}


def source(model: Model) -> str:
    """What a model is, whatever it is called here: its repository and commit, its package, or the name of its file."""
    where = model.repo or model.package or (model.path.name if model.path else model.name)
    return f"{where} at {model.revision[:12]}" if model.revision else where


def _flat(name: str, data: Any) -> Iterator[tuple[str, str]]:
    if name in LEFT_OUT:
        return
    if isinstance(data, Mapping) and data:
        for key, inner in data.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, spelled(data)


def spelled(data: Any) -> str:
    """As a configuration spells it."""
    if data is None or data == {}:
        return NOTHING
    if isinstance(data, bool):
        return str(data).lower()
    return f"[{', '.join(map(spelled, data))}]" if isinstance(data, list) else str(data)


def _idle(config: Config) -> Iterator[str]:
    """Settings that do nothing, because of others."""
    if not capacity.is_wanted(config.traffic):
        yield from ("traffic.max_concurrency", "traffic.precision", "traffic.max_rate", "traffic.rate_step")
    traffic = config.traffic
    yield from ("traffic.concurrencies", "traffic.requests_per_user") if traffic.is_open else ("traffic.arrivals_s",)
    if not config.slo.is_set:
        yield from ("slo.ttft_s", "slo.tpot_s", "slo.e2e_s", "slo.attainment", "slo.limits")


def obstacles(ours: Mapping[str, str], theirs: Mapping[str, str], *, any_model: bool = False) -> tuple[Difference, ...]:
    """Why the scores of trials with these settings are not of the same thing; nothing: they can be compared."""
    left, right = must_be_alike(ours, any_model=any_model), must_be_alike(theirs, any_model=any_model)
    return _differences([[left], [right]], dict.fromkeys([*left, *right]))


def must_be_alike(given: Mapping[str, str], *, any_model: bool = False) -> dict[str, str]:
    """Of the settings, what scores are scores of: objective, traffic, SLO, and the model unless any will do."""
    counted = [name for name in given if name.startswith("traffic.dataset.") and name != "traffic.dataset.sha256"]
    apart = {
        *HARMLESS,
        *counted,
        *(["traffic.concurrencies", "traffic.rates"] if given["traffic.levels"] == "capacity" else []),
    }
    named = {OBJECTIVE} if any_model else {OBJECTIVE, MODEL}
    return {
        name: seen
        for name, seen in given.items()
        if name in named or (name.startswith(("traffic.", "slo.")) and name not in apart)
    }


def of(sweeps: Sequence[Sequence[Told]]) -> tuple[Difference, ...]:
    """Every setting, knob and fact of the machine in which the sweeps differ."""
    seen = [[{**_engine(one.record), **one.settings, **_machine(one.record)} for one in some] for some in sweeps]
    names = dict.fromkeys(sorted({name for some in seen for one in some for name in one}, key=_order))
    found = _differences(seen, names)
    apart = {one.name for one in found}
    return tuple(one for one in found if not _follows(one.name, apart))


def _engine(record: Record) -> dict[str, str]:
    """By its own word; a trial in which it never said anything tells nothing."""
    is_silent = record.engine_version is None and record.failure is not None
    return {} if is_silent else {ENGINE: subject.engine(record)}


def _machine(record: Record) -> dict[str, str]:
    found = {name: told for name, told in record.environment.items() if name not in OF_US}
    found |= {name: told for name, told in record.deployment.items() if name in {"image", "image_digest"}}
    return {f"{SEEN}{name}": told for name, told in found.items()}


def _order(name: str) -> tuple[int, str]:
    """What matters most first: what must be alike, the engine, knobs, other settings, the machine."""
    starts = (OBJECTIVE, "traffic.", "slo.", ENGINE, "runtime.", KNOB, MODEL, "hardware.", "backend.", "bench.")
    return next((at for at, start in enumerate(starts) if name.startswith(start)), len(starts)), name


def _differences(sweeps: Sequence[Sequence[Mapping[str, str]]], names: Iterable[str]) -> tuple[Difference, ...]:
    found = []
    for name in names:
        missing = DEFAULT if name.startswith(KNOB) else NOTHING
        values = [_distinct(one.get(name, missing) for one in trials) for trials in sweeps]
        if name == ENGINE or name.startswith(SEEN):
            values = [[seen for seen in some if seen != NOTHING] for some in values]  # not every trial tells
        if any(set(some) != set(values[0]) for some in values):
            shown = tuple(_listed(some) or NOTHING for some in values)
            found.append(Difference(name=name.removeprefix(KNOB).removeprefix(SEEN), values=shown))
    return tuple(found)


def _follows(name: str, apart: set[str]) -> bool:
    """Whether it is told already, or goes with an engine or hardware that is another one altogether."""
    if name in {"runtime.name", "runtime.version"}:
        return ENGINE in apart
    if name.startswith("model."):
        return MODEL in apart
    section = name.partition(".")[0]
    return f"{section}.name" in apart and section in {"runtime", "hardware"} and name not in BY_HAND


def _distinct(values: Iterable[str]) -> list[str]:
    return sorted(dict.fromkeys(values), key=_rank)


def _rank(seen: str) -> tuple[int, float, str]:
    """The default first, then numbers by size."""
    try:
        return 1, float(seen), seen
    except ValueError:
        return (0 if seen == DEFAULT else 2), 0.0, seen


def _listed(values: Sequence[str]) -> str:
    """`16, 32`; of many, how many there are, and the ends."""
    if len(values) <= MOST:
        return ", ".join(values)
    return f"{len(values)} values, {values[0]} to {values[-1]}"


def varied(sweep: Sequence[Told]) -> frozenset[str]:
    """Settings that tell trials of one sweep apart, beside knobs: an engine, a version, a folder of weights."""
    given = [one.settings for one in sweep]
    names = {name for one in given for name in one if not name.startswith(KNOB)}
    found = {name for name in names if len({one.get(name) for one in given}) > 1}
    return frozenset(name for name in found if not name.startswith("runtime.") or _is_own(name, found))


def _is_own(name: str, found: set[str]) -> bool:
    return name == "runtime.name" or "runtime.name" not in found


def words(config: Config) -> tuple[str, ...]:
    """The knobs that are set, as overrides."""
    return tuple(f"{name}={seen}" for name, seen in config.knobs.items() if seen is not None)
