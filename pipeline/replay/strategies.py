"""The strategies that a replay compares, by name: the sampler's option, and what comes with it."""

import difflib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from pydantic import Field

from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.values import value

TUNER, DEFAULT = "tuner", "default"
NAMED: Mapping[str, str] = {
    TUNER: "what `servetune -m` does: the baseline first, then the default sampler, with racing",
    DEFAULT: "the engine's defaults, and nothing else",
    "random": "Optuna's random sampler",
    "tpe": "Optuna's TPE in our search, which tells it the order of lists and what failed, and repeats nothing",
    "tpe-multivariate": "the same, and it looks at knobs together",
    "tpe-stock": "Optuna's TPE as it comes",
    "gp": "Optuna's Gaussian process, where PyTorch is installed",
}
SAMPLERS = "hydra/sweeper/sampler"
LEARNED = f"{TUNER}:learn=true"
BASELINE, RACING, REPAIRS, LEARN = (
    "baseline",
    "racing",
    "repairs",
    "learn",
)  # the keys of a strategy that are not the sampler's
OPTIONS = {TUNER: None, DEFAULT: "random", "tpe-multivariate": "tpe", "tpe-stock": "tpe"}  # where it is not the name


@value
class Strategy:
    """What proposes, and what it is given."""

    name: str
    sampler: Mapping[str, Any] = Field(default_factory=dict)  # as composed
    baseline: bool = False  # trial 0 is the default
    racing: bool = False  # levels of trials that cannot win are left out
    repairs: bool = True  # false: Optuna alone, as its users have it
    learn: bool = False  # from past sweeps of other landscapes
    is_default_only: bool = False


def usual() -> tuple[str, ...]:
    """Those that are compared where none are named: all that can run here."""
    return tuple(name for name in NAMED if name != "gp" or find_spec("torch"))


def made(words: Sequence[str]) -> list[Strategy]:
    """The strategies of these names.

    Raises:
        ConfigError: a name that nobody knows, a key that the sampler does not have, a package that is missing.
    """
    twice = [word for at, word in enumerate(words) if word in words[:at]]
    if twice:
        raise ConfigError(f"--strategies names {twice[0]} twice.")
    with initialize_config_dir(str(CONF)):
        return [_made(word) for word in words]


def _made(word: str) -> Strategy:
    name, _, more = word.partition(":")
    pairs = dict(pair.partition("=")[::2] for pair in more.split(",") if pair)
    own = {BASELINE: name in {TUNER, DEFAULT}, RACING: name == TUNER, REPAIRS: name != "tpe-stock", LEARN: False}
    flags = {key: _flag(word, key, pairs.pop(key, str(told))) for key, told in own.items()}
    if name == "tpe-multivariate":
        pairs = {"multivariate": "true", **pairs}
    option = OPTIONS.get(name, name)
    if option is not None and option not in _options():
        raise ConfigError(f"--strategies {word}: there is no strategy {name}.{_nearest(name)}")
    if option == "gp" and not find_spec("torch"):
        raise ConfigError("--strategies gp: Optuna's Gaussian process needs PyTorch. Install it: pip install torch.")
    if option is None and not flags[REPAIRS]:
        raise ConfigError(f"--strategies {word}: {name} cannot do without repairs. Expected e.g. tpe:repairs=false.")
    if flags[LEARN] and option not in {None, "servetune"}:
        raise ConfigError(f"--strategies {word}: only {TUNER} learns from other landscapes.")
    if "seed" in pairs:
        raise ConfigError(f"--strategies {word}: each search has a seed of its own. Say how many with --seeds.")
    sampler = _composed(option, pairs, word)
    return Strategy(name=word, sampler=sampler, is_default_only=name == DEFAULT, **flags)


def _flag(word: str, key: str, told: str) -> bool:
    if told.lower() not in {"true", "false"}:
        raise ConfigError(f"--strategies {word}: {key}={told}: expected true or false.")
    return told.lower() == "true"


def _composed(option: str | None, pairs: Mapping[str, str], word: str) -> dict[str, Any]:
    """The sampler's option; None: the sweeper's own."""
    chosen = ["hydra/sweeper=tuner", *([f"{SAMPLERS}={option}"] if option else [])]
    own = [f"hydra.sweeper.sampler.{key}={told}" for key, told in pairs.items()]
    try:
        tree = compose("config", overrides=[*chosen, *own], return_hydra_config=True)
    except (HydraException, ValueError) as error:
        told = str(error).splitlines()[0]
        raise ConfigError(f"--strategies {word}: {told} Expected e.g. tpe:multivariate=true.") from error
    found: dict[str, Any] = OmegaConf.to_container(tree.hydra.sweeper.sampler, resolve=True)  # type: ignore[assignment]
    return {key: told for key, told in found.items() if told is not None or key == "seed"}


def _options() -> set[str]:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.object_type import ObjectType

    loader = GlobalHydra.instance().config_loader()
    return {*loader.get_group_options(SAMPLERS, ObjectType.CONFIG)} - {"motpe"}


def _nearest(name: str) -> str:
    known = sorted({*NAMED, *_options()})
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"{meant} Expected one of {', '.join(known)}, with a sampler's keys after a colon: tpe:multivariate=true."
