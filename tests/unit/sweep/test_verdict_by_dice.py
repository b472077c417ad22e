"""Made-up sweeps through the code that decides: noise is not crowned, and what is better is found.

`benchmarks/verdict.py` does the same with 10,000 sweeps.
"""

import pytest

from support.dice import named


@pytest.mark.parametrize(
    ("sweeps", "noise", "drift"), [(1400, 0.03, 0.0), (600, 0.1, 0.02)], ids=["quiet", "noisy and drifting"]
)
def test_of_equal_configurations_hardly_ever_one_is_named(sweeps: int, noise: float, drift: float) -> None:
    wrong = sum(named(seed, gain=0.0, noise=noise, drift=drift).winner is not None for seed in range(sweeps))
    assert wrong / sweeps <= 0.05


def test_ten_percent_at_three_percent_noise_is_named() -> None:
    sweeps = 600
    assert sum(named(seed, gain=0.1, noise=0.03).is_right for seed in range(sweeps)) / sweeps >= 0.8


@pytest.mark.parametrize("confirm", [2, 5])
def test_so_many_rounds_are_looked_at_once(confirm: int) -> None:
    sweeps = 300
    found = [named(seed, gain=0.0, noise=0.03, confirm=confirm) for seed in range(sweeps)]
    assert sum(one.winner is not None for one in found) / sweeps <= 0.06
    assert {one.rounds % confirm for one in found} == {0}
