"""What a traffic scenario asks for, in genai-bench 0.0.5's spelling."""

import pytest

from pipeline.core import scenario
from pipeline.core.scenario import Tokens

SCENARIOS = {
    "deterministic": ("D(64,16)", (64, 16), (64, 16)),
    "normal": ("N(200,100)/(120,60)", (200, 120), (500, 300)),
    "uniform": ("U(10,20)/(30,50)", (15, 40), (20, 50)),
    "uniform-short": ("U(100,200)", (50.5, 100.5), (100, 200)),
}


@pytest.mark.parametrize(("line", "mean", "longest"), SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario_says_how_many_tokens_it_asks_for(
    line: str, mean: tuple[float, float], longest: tuple[float, float]
) -> None:
    assert scenario.mean(line) == Tokens(input=mean[0], output=mean[1])
    assert scenario.longest(line) == Tokens(input=longest[0], output=longest[1])
