"""How late the load generator was: a histogram whose parts can be added."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bench.lags import LEAST_S, Lags

TIMES = st.lists(st.floats(min_value=0, max_value=100), min_size=1, max_size=50)


def lags(*times: float) -> Lags:
    made = Lags()
    for each in times:
        made.add(each)
    return made


@settings(deadline=None, derandomize=True, database=None)  # the same examples on every machine, however slow
@given(TIMES, TIMES)
def test_parts_say_what_the_whole_says(one: list[float], other: list[float]) -> None:
    together = Lags.of(lags(*one).counts, lags(*other).counts)
    assert together.counts == lags(*one, *other).counts
    longest = max(*one, *other)
    assert together.quantile(1.0) == pytest.approx(longest, rel=0.1, abs=LEAST_S)


def test_a_quantile_is_a_length_that_few_exceed() -> None:
    seen = lags(*[0.001] * 99, 0.5)
    assert seen.quantile(0.99) == pytest.approx(0.001, rel=0.1)
    assert seen.quantile(1.0) == pytest.approx(0.5, rel=0.1)
    assert lags().quantile(0.99) == 0.0
