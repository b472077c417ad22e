"""The space of a search from what was typed."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from pipeline.core.errors import ConfigError
from pipeline.sweep.search.space import Choice, Space, Span
from pipeline.sweep.tuner import dimensions


def space_of(*lines: str) -> Space:
    return dimensions.space_of(OverridesParser.create().parse_overrides([*lines]))


def test_lists_ranges_and_intervals() -> None:
    space = space_of("a=1,2", "b=range(1,9,2)", "c=tag(log,interval(0.1,1))", "d=4")
    assert space.dimensions == (
        Choice(name="a", values=("1", "2")),
        Span(name="b", low=1, high=7, step=2),
        Span(name="c", low=0.1, high=1.0, is_log=True),
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x=tag(log,interval(0,0.01))", "ends above 0, for a logarithm, seen 0 to 0.01"),
        ("x=tag(log,interval(-1,1))", "ends above 0"),
        ("x=interval(0.1,inf)", "two numbers, seen 0.1 to inf"),
        ("x=interval(0,nan)", "two numbers"),
    ],
)
def test_an_interval_that_cannot_be_searched_is_refused_before_anything_starts(line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        space_of(line)
