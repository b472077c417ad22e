"""The names of levels: how they are made, and read again."""

import pytest

from pipeline.core import loads
from pipeline.core.loads import AtLoad

USERS = AtLoad(scenario="N(200,100)/(120,60)", concurrency=4)
RATE = AtLoad(scenario="D(64,16)", concurrency=0, rate=2.5)


@pytest.mark.parametrize(
    ("level", "name", "folder", "demand"),
    [
        (USERS, "N(200,100)/(120,60) x4", "4", 4),
        (RATE, "D(64,16) at 2.5 requests/s", "2.5-requests-per-s", 2.5),
        (AtLoad(scenario="dataset", concurrency=0, rate=8.0), "dataset at 8 requests/s", "8-requests-per-s", 8),
    ],
)
def test_a_name_says_scenario_and_load(level: AtLoad, name: str, folder: str, demand: float) -> None:
    assert (level.name, level.folder, level.demand) == (name, folder, demand)
    assert loads.scenario_of(name) == level.scenario
    assert loads.demand_of(name) == demand
    assert loads.is_rate(name) is (level.rate is not None)
    assert loads.of_folder(folder) == demand


@pytest.mark.parametrize("name", ["4~1", "2.5-requests-per-s~1", "logs"])
def test_what_was_put_aside_is_no_level(name: str) -> None:
    assert loads.of_folder(name) is None


def test_a_name_without_a_load_has_none() -> None:
    assert (loads.scenario_of("D(64,16)"), loads.demand_of("D(64,16)"), loads.is_rate("D(64,16)")) == (
        "D(64,16)",
        0,
        False,
    )
