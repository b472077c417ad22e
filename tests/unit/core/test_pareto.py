"""Fronts and volumes of several objectives."""

import pytest

from pipeline.core import pareto

BOTH = (True, False)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)], [True, True, True]),
        ([(1.0, 1.0), (2.0, 1.0), (2.0, 0.5)], [False, False, True]),
        ([(1.0, 1.0), (1.0, 1.0)], [True, True]),
        ([], []),
    ],
    ids=["a trade", "one is best in both", "equals", "none"],
)
def test_the_front_has_what_nothing_is_better_than(points: list[pareto.Point], expected: list[bool]) -> None:
    assert pareto.front(points, BOTH) == expected


def test_what_is_to_be_small_counts_by_its_inverse() -> None:
    assert pareto.volume((100.0, 0.5), BOTH) == 200.0
    assert pareto.volume((0.0, 0.5), BOTH) == 0.0


def test_members_are_configurations_with_a_point_on_it() -> None:
    points = [(0, (1.0, 1.0)), (1, (9.0, 2.0)), (1, (1.0, 0.5)), (2, (0.5, 0.6))]
    assert pareto.members(points, BOTH) == [1]
    assert pareto.members([(3, (1.0, 1.0)), (2, (4.0, 2.0))], BOTH) == [2, 3]
