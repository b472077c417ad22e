"""How long a trial may take: as asked, else as long as its steps; and when that is too short for its levels."""

from typing import Any

import pytest

from pipeline.config import trial_limit
from pipeline.core.schema import Config
from pipeline.engines import told
from support.records import CONFIG, make_config


def limited(trial_s: float | None, **traffic: Any) -> Config:
    timeouts = {**CONFIG["timeouts"], "trial_s": trial_s}
    return make_config(timeouts=timeouts, traffic={**CONFIG["traffic"], **traffic})


def test_the_limit_is_what_was_asked() -> None:
    assert trial_limit.of(limited(1800)) == 1800


def test_without_one_it_is_the_sum_of_the_steps() -> None:
    steps = trial_limit.steps(limited(None))
    assert trial_limit.of(limited(None)) == sum(steps.values())
    assert steps["health"] == 60 + trial_limit.HEALTH_GRACE_S
    assert steps["settings"] == 2 * told.PATIENCE_S
    assert not {*steps} & {*trial_limit.UNCOUNTED}
    beside = trial_limit.IDLE_TIMEOUT_S + 10 + 30  # traffic.drain_s, bench.level_grace_s
    assert steps["bench"] == 2 * (2 * (10 + beside) + 100 + beside) + trial_limit.SETTINGS_S  # all twice: crowded


def test_an_engine_in_a_cluster_is_not_measured_again_for_a_crowd() -> None:
    here = limited(None)
    noted = make_config(bench={**CONFIG["bench"], "crowded": "note"})
    assert trial_limit.steps(noted)["bench"] < trial_limit.steps(here)["bench"]


@pytest.mark.parametrize(
    ("trial_s", "is_warned"), [(None, False), (40, False), (39, True)], ids=["sum", "fits", "too-short"]
)
def test_a_limit_that_the_levels_may_exceed_is_warned_about(trial_s: float | None, is_warned: bool) -> None:
    found = trial_limit.too_short(limited(trial_s))  # two levels of 10 s, 10 s each to drain
    assert [one.verdict for one in found] == ["warned"] * is_warned
    if is_warned:
        assert found[0].reason.startswith("timeouts.trial_s=39, but the levels may take 40 s (2 x 20 s: ")
