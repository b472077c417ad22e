"""When a trial goes on to another level, and when it is stopped."""

import math

import pytest

from pipeline.sweep.search.strategy.racing import Decision, Measured, Rival, goes_on

RIVAL = Rival(score=0.0, level=2, noise=0.03)


def at(level: int, score: float, *, is_inside: bool = True) -> Measured:
    return Measured(level=level, score=score, is_inside=is_inside)


def following(*seen: Measured, has_slo: bool = False, rival: Rival | None = RIVAL) -> Decision:
    return goes_on(seen, 4, rival, has_slo=has_slo)


def test_the_first_configuration_is_measured_at_every_level_the_busiest_first() -> None:
    seen: list[Measured] = []
    while (step := following(*seen, rival=None).next) is not None:
        seen.append(at(step, -9.0))
    assert [one.level for one in seen] == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("seen", "has_slo", "step", "raced"),
    [
        pytest.param([], False, 3, False, id="the busiest level first"),
        pytest.param([], True, 2, False, id="under an SLO the best one's level first"),
        pytest.param([at(3, -0.07)], False, None, True, id="stopped below the bound"),
        pytest.param([at(3, -0.05)], False, 2, False, id="a contender within the noise goes on"),
        pytest.param([at(3, 0.5)], False, 2, False, id="a new best goes on"),
        pytest.param([at(2, 0.1)], True, 3, False, id="inside: up"),
        pytest.param([at(2, -0.5)], True, 3, False, id="inside and behind: up, it may grow"),
        pytest.param([at(2, 0.1), at(3, -0.2)], True, 1, False, id="no better higher up: a contender's other levels"),
        pytest.param([at(2, -0.5), at(3, -0.3)], True, None, True, id="inside and behind everywhere"),
        pytest.param([at(2, 0.3, is_inside=False)], True, 1, False, id="outside, but fast: down"),
        pytest.param([at(2, -0.1, is_inside=False)], True, None, True, id="outside, and slower: stop"),
        pytest.param(
            [at(2, 0.3, is_inside=False), at(1, -0.1, is_inside=False)], True, None, True, id="down until slower"
        ),
        pytest.param([at(2, 0.3, is_inside=False), at(1, 0.2)], True, 3, False, id="down until inside: a contender"),
        pytest.param([at(2, 0.1), at(3, 0.4, is_inside=False)], True, 1, False, id="up until outside: a contender"),
        pytest.param([at(3, 0.1), at(2, 0.0), at(1, 0.0), at(0, 0.0)], False, None, False, id="all were measured"),
    ],
)
def test_levels(seen: list[Measured], step: int | None, *, has_slo: bool, raced: bool) -> None:
    found = following(*seen, has_slo=has_slo)
    assert (found.next, found.is_raced) == (step, raced)


def test_a_stop_says_by_how_much_it_lost() -> None:
    assert following(at(3, math.log(0.8))).reason == "80% of the best, at most 85% with noise"
    assert following(at(2, -0.1, is_inside=False), has_slo=True).reason == "outside the SLO at the level that decides"
