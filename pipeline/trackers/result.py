"""The result of a sweep for a tracker: a row per trial and the winner. Values only."""

from collections.abc import Mapping
from typing import Any

from pipeline.core.evaluation import Change
from pipeline.core.record import Phase
from pipeline.core.statistics import Interval
from pipeline.core.values import value

GROUPS = ("runtime", "model", "backend", "traffic", "hardware", "slo")


@value
class TrialResult:
    """One trial in the table. Times in seconds and throughput in tokens/s, at the level that gave the objective."""

    rank: int | None
    number: int
    overrides: str  # what tells the trial from the others
    status: str
    objectives: Mapping[str, float]  # empty: no result
    repeated: Interval | None  # the first objective over all measurements of the configuration, if there are several
    against_baseline: float | None  # relative difference of the first objective; 0.1 is 10% more
    change: str  # the same with its interval, e.g. `+12.1% ±3.2`, or `+34.0% (once)`
    flags: str  # what to know of it, e.g. cut
    best_level: str | None
    output_tokens_per_s: float | None
    ttft_p95_s: float | None
    tpot_p95_s: float | None
    error_rate: float | None
    failure_kind: str | None
    repeat_of: int | None
    phase: Phase
    same_as: int | None
    quality: str = ""  # the verdict on its answers, as in ranking.csv; empty: the baseline, a repeat, or nobody asked
    is_barred: bool = False  # it cannot win, for what it answers


@value
class Winner:
    """The trial that the verdict recommends."""

    number: int
    overrides: str
    command: str  # ready to be pasted
    server_command: str
    best_level: str | None
    objectives: Mapping[str, float]  # in the search
    against_baseline: float | None  # by the rounds of the confirmation, if there are any
    against_baseline_low: float | None  # None: measured once
    against_baseline_high: float | None
    rounds: int  # of the confirmation; 0: by the search alone
    verdict: str  # in a word or two, e.g. confirmed, no difference
    quality: str = ""  # the verdict on its answers; empty: it is the baseline, or nobody was asked
    knobs: Mapping[str, Any]  # those that are set


@value
class SweepResult:
    """A finished sweep. After a resumed sweep, the new result replaces the earlier one."""

    sweep_id: str
    choices: Mapping[str, str]  # group: the option's name
    objectives: tuple[str, ...]  # names; the first one ranks
    knobs: tuple[str, ...]  # those that differ between the trials
    trials: tuple[TrialResult, ...]  # best first
    best: Winner | None  # None: nothing is recommended
    verdict: tuple[str, ...]  # in sentences, the headline first
    exit_code: int
    evaluations: tuple[Change, ...] = ()  # of the best one against the baseline, by lm-eval

    @property
    def said(self) -> tuple[str, ...]:
        """The verdict, and each evaluation, in sentences."""
        return (*self.verdict, *(f"lm-eval: {one}" for one in self.evaluations))
