"""Sentences on what crashes."""

from itertools import product

import pytest

from pipeline.core.crash_rules import Observed, rules
from pipeline.core.errors import FailureKind

OOM, BAD = FailureKind.OOM_GPU, FailureKind.BAD_FLAG


def trial(kind: FailureKind | None = None, **settings: float | str) -> Observed:
    return Observed(settings=settings, kind=kind)


def test_two_bounds_are_found_where_both_are_needed() -> None:
    grid = product((0.8, 0.85, 0.9, 0.93, 0.95), (128, 256, 512, 1024))
    seen = [trial(OOM if share >= 0.93 and seqs >= 512 else None, share=share, seqs=seqs) for share, seqs in grid]
    (found,) = rules(seen)
    assert found.words == "oom_gpu: 4 of 4 trials with share ≥ 0.93 and seqs ≥ 512; 0 of the 16 others."


def test_each_kind_has_a_rule_of_its_own_the_commonest_first() -> None:
    seen = [*(trial(OOM, n=n, word="x") for n in (8, 9, 10)), *(trial(BAD, n=n, word="y") for n in (1, 2))]
    seen += [trial(n=n, word="x") for n in (1, 2, 3)]
    assert [found.words for found in rules(seen)] == [
        "oom_gpu: 3 of 3 trials with n ≥ 8; 0 of the 5 others.",
        "bad_flag: 2 of 2 trials with word = y; 0 of the 6 others.",
    ]


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param([trial(OOM, n=9), trial(n=1), trial(n=2)], id="once is no pattern"),
        pytest.param([trial(OOM, n=n) for n in (1, 2, 3)], id="everything failed: no setting is to blame"),
        pytest.param([trial(FailureKind.NODE_FAILED, n=n) for n in (8, 9)] + [trial(n=1)], id="not by its settings"),
        pytest.param([trial(OOM if n % 4 == 1 else None, n=n) for n in range(20)], id="no pattern"),
        pytest.param([], id="nothing"),
    ],
)
def test_nothing_is_said_without_a_pattern(seen: list[Observed]) -> None:
    assert rules(seen) == ()


def test_a_rule_tells_its_exceptions() -> None:
    seen = [trial(OOM if n >= 8 and n != 11 else None, n=n) for n in range(16)]
    assert rules(seen)[0].words == "oom_gpu: 7 of 8 trials with n ≥ 8; 0 of the 8 others."
