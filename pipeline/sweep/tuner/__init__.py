"""Hydra's sweeper `tuner`: a thin shell that gives `pipeline.sweep.search` its space, and its trials a launcher."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.config import spaces
from pipeline.config.sides import Knobs

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

    from pipeline.core.schema import Config


def register(
    overrides: Sequence[str], words: Sequence[str] = (), knobs: Knobs | None = None, left_out: Collection[str] = ()
) -> None:
    """Make the sweeper known to Hydra, which finds by itself only those of its plugin packages.

    Args:
        overrides: of the command.
        words: the overrides of a sweep of several engines, of which Hydra itself cannot make a tree.
        knobs: of each of these engines.
        left_out: those of them that cannot run here.
    """
    from hydra.core.plugins import Plugins

    from pipeline.sweep.tuner.engines import Engines
    from pipeline.sweep.tuner.sweeper import Tuner

    known = frozenset(spaces.options(overrides))
    Tuner.engines = Engines(words=tuple(words), knobs=knobs or {}, left_out=frozenset(left_out), options=known)
    Plugins.instance().register(Tuner)


def check(tree: "DictConfig", swept: "Mapping[str, Override]", base: "Config") -> tuple[str, ...]:
    """What only a search would find out of its settings; what it learns from. Nothing is opened or written.

    Raises:
        ConfigError: its sampler, its storage or an earlier sweep cannot be used.
    """
    from pipeline.config import sweepers
    from pipeline.core.limits import settings_of
    from pipeline.sweep import learning
    from pipeline.sweep.search import storages
    from pipeline.sweep.tuner import dimensions, samplers

    sweeper = tree.hydra.sweeper
    if not sweepers.is_tuner(sweeper):
        return ()
    samplers.check(sweeper.sampler)
    if sweeper.storage:
        storages.check(sweeper.storage)
    settings = settings_of(sweeper)
    if not (folders := settings.learn_from):
        return ()
    samplers.insist_learns(sweeper.sampler)
    learning.insist_other(folders, tree.hydra.sweep.dir)
    space = dimensions.space_of(sweepers.ordered(swept.values()))
    said = learning.read(folders, space, base).said
    is_whole = space.size is not None and space.size <= (settings.limits.n_trials or space.size)
    return (*said, learning.EVERY) if is_whole else said
