"""The settings of a search: what is refused before anything starts."""

from typing import Any

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.limits import settings_of


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"n_trials": True}, "hydra.sweeper.n_trials: expected an integer, got true."),
        ({"gpu_hours": True}, "hydra.sweeper.gpu_hours: expected a number, got true."),
        ({"n_jobs": True}, "hydra.sweeper.n_jobs: expected an integer, got true."),
    ],
)
def test_true_is_no_number(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(given)
    assert str(caught.value) == expected


def test_what_may_be_true_may() -> None:
    found = settings_of({"n_trials": 3, "racing": True, "baseline": False})
    assert (found.limits.n_trials, found.racing, found.baseline) == (3, True, False)
