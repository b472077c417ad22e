"""Past sweeps for a search to learn from: the default search itself, played on other landscapes."""

from collections.abc import Hashable, Sequence
from functools import lru_cache

from pipeline.core.errors import ConfigError
from pipeline.replay import play, sources
from pipeline.replay.landscape import Landscape
from pipeline.replay.play import Budget, Play
from pipeline.replay.sources import Source
from pipeline.replay.strategies import Strategy
from pipeline.replay.tables import Options
from pipeline.sweep.search.space import Space
from pipeline.sweep.search.strategy.earlier import Earlier

PASTS = 5  # sweeps of each landscape in turn
_played: dict[tuple[Hashable, ...], Earlier] = {}
APART = 1000  # their seeds, so that none has the noise of a search that is compared


def shared(one: Space, other: Space) -> tuple[str, ...]:
    """The knobs that both have."""
    return tuple(name for name in one.names if name in other.names)


def taught(landscapes: Sequence[Landscape], teachers: Sequence[tuple[Source, Landscape]]) -> dict[str, list[Source]]:
    """What each landscape may learn from: others, with a knob of its own. Those without any are left out.

    Raises:
        ConfigError: none may learn anything.
    """
    found = {
        one.name: [source for source, other in teachers if other.name != one.name and shared(one.space, other.space)]
        for one in landscapes
    }
    if not any(found.values()):
        raise ConfigError("--learn-from: no landscape shares a knob with another one there.")
    return {name: some for name, some in found.items() if some}


def of(source: Source, options: Options, strategy: Strategy, number: int, budget: Budget) -> Earlier:
    """A past sweep of a landscape, as a search is told of it; the same for the same number. Played once."""
    key = (source, options, strategy.name, number, budget)
    if key not in _played:
        _played[key] = _play(source, options, strategy, number, budget)
    return _played[key]


def _play(source: Source, options: Options, strategy: Strategy, number: int, budget: Budget) -> Earlier:
    one = Play(_opened(source, options), strategy, APART + number, budget)
    with play.quiet():
        one.run()
    trials = one.told()
    return Earlier(name=one.found.name, trials=tuple(trials), baseline=trials[0])


@lru_cache(maxsize=4)
def _opened(source: Source, options: Options) -> Landscape:
    return sources.opened(source, options)
