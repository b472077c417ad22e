"""Plays one search on a landscape: the product's own search and study, a simulated clock, and slots."""

import heapq
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from omegaconf import OmegaConf

from pipeline.core.limits import Limits
from pipeline.core.values import value
from pipeline.replay import trial
from pipeline.replay.landscape import Landscape
from pipeline.replay.strategies import Strategy
from pipeline.replay.trial import Choose, Measured, Running
from pipeline.sweep.search import policy
from pipeline.sweep.search.policy import Next, Seen
from pipeline.sweep.search.search import Search
from pipeline.sweep.search.space import only
from pipeline.sweep.search.strategy import sampler
from pipeline.sweep.search.strategy.earlier import Earlier
from pipeline.sweep.search.strategy.told import Told
from pipeline.sweep.search.study import Job, in_memory
from pipeline.sweep.tuner import samplers

REFUSALS = 10  # in a row; then a search gets a random combination that can start
FRUITLESS = 3_000  # answered without a trial, in a row: nothing more will come


@value
class Budget:
    """How long a search may take."""

    trials: int  # whole trials that follow each other
    slots: int = 1


@value
class Run:
    """What became of one search. Times are in whole trials, scores are shares of the best true score."""

    landscape: str
    strategy: str
    seed: int
    times: tuple[float, ...]  # at which trials ended
    recommended: tuple[float, ...]  # what would be recommended from then on, by its true score
    default: float
    deployed: int
    crashed: int
    refused: int  # proposals that cost nothing
    asked_s: float  # real time for all proposals
    proposals: int
    cpu_s: float  # for all of it
    confirmed: float | None = None  # what is recommended after rounds against the default; None: there was no default
    rounds: int = 0  # trials that those rounds took, beyond the budget


class Plain(Search):
    """Runs whatever the sampler proposes, also what was run before."""

    def _new(self, seen: list[Seen]) -> Job:
        return self.study.begin(Next())


class Clock:
    """Simulated seconds."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        """What time it is."""
        return self.at


@dataclass
class Play:
    """A search on its way."""

    found: Landscape
    strategy: Strategy
    seed: int
    budget: Budget
    choose: Choose | None = None  # None: as the strategy says
    earlier: Sequence[Earlier] = ()  # sweeps that it learns from
    clock: Clock = field(default_factory=Clock)
    running: list[tuple[float, int, Running]] = field(default_factory=list)
    had: Counter[int] = field(default_factory=Counter)
    incumbent: Sequence[Measured] = ()  # the best trial that was measured whole
    ended: list[tuple[float, float]] = field(default_factory=list)
    crashed: int = 0
    proposals: int = 0
    asked_s: float = 0.0

    def __post_init__(self) -> None:
        self.next_level = self.choose or (trial.raced if self.strategy.racing else trial.every_level)
        self.whole_s, self.best = self.found.whole_s, self.found.best
        study = in_memory(self.found.space, ["maximize"], is_plain=not self.strategy.repairs)
        study.foresee = only(lambda params: self.found.row(params) is not None)
        option = OmegaConf.create({**self.strategy.sampler, **self._seed()})
        if made := samplers.made(option, done=0, slots=self.budget.slots, earlier=self.earlier):
            study.optuna.sampler = made
        limits = Limits(
            n_trials=1 if self.strategy.is_default_only else None,  # time is the budget: that is what is compared
            timeout_s=self.budget.trials * self.whole_s,
            confirm=0,
        )
        baselines = [self.found.params(self.found.default)] if self.strategy.baseline else []
        is_grid = samplers.is_grid(option)
        kind = Search if self.strategy.repairs else Plain
        self.search = kind(study, limits, baselines, is_maximised=[True], in_order=is_grid, clock=self.clock)
        self.search.in_order = is_grid  # a space that fits into the budget is searched, too

    def _seed(self) -> dict[str, int]:
        return {"seed": self.seed} if "seed" in self.strategy.sampler else {}

    def run(self) -> Run:
        """All of it."""
        began = time.process_time()
        end_s = self.budget.trials * self.whole_s
        self._fill()
        while self.running and self.running[0][0] <= end_s:
            self.clock.at, _, one = heapq.heappop(self.running)
            self._go_on(one)
            self._fill()
        confirmed, rounds = self._confirmed() if self.strategy.baseline else (None, 0)
        return Run(
            landscape=self.found.name,
            strategy=self.strategy.name,
            seed=self.seed,
            times=tuple(at / self.whole_s for at, _ in self.ended),
            recommended=tuple(share for _, share in self.ended),
            default=float(self.found.truth[self.found.default] / self.best),
            deployed=len(self.ended),
            crashed=self.crashed,
            refused=sum(one.is_answered for one in self.search.study.seen()),
            asked_s=self.asked_s,
            proposals=self.proposals,
            cpu_s=time.process_time() - began,
            confirmed=confirmed,
            rounds=rounds,
        )

    def told(self) -> list[Told]:
        """What a later search would know of this one; first its baseline."""
        found = (sampler.told(one) for one in self.search.study.optuna.get_trials(deepcopy=False))
        return [one for one in found if one is not None and not one.is_running]

    def _fill(self) -> None:
        """Start trials while slots are free."""
        fruitless = 0
        while len(self.running) < self.budget.slots and fruitless < FRUITLESS:
            job = self._asked(is_refused_again=fruitless > 0 and fruitless % REFUSALS == 0)
            if job is None:
                return
            row = self.found.row(job.params)
            if row is None:
                self.search.tell(job.number, trial.REFUSED)
                fruitless += 1
                continue
            fruitless = 0
            one = trial.begun(self.found, job, row, self.seed, self.had[row])
            self.had[row] += 1
            self._later(one, one.ready_s(self.found))

    def _asked(self, *, is_refused_again: bool) -> Job | None:
        began = time.perf_counter()
        job = self._drawn() if is_refused_again else self.search.next()
        self.asked_s += time.perf_counter() - began
        self.proposals += 1
        return job

    def _drawn(self) -> Job | None:
        """A combination that can start, for a sampler that cannot be told which those are."""
        had = {self.found.row(one.params) for one in self.search.study.seen()}
        left = [row for row in range(len(self.found.picks)) if row not in had]
        if not left:
            return None
        pick = left[int(np.random.default_rng([self.seed, len(had)]).integers(len(left)))]
        return self.search.study.begin(Next(params=self.found.params(pick)))

    def _later(self, one: Running, seconds: float) -> None:
        heapq.heappush(self.running, (self.clock.at + seconds, one.job.number, one))

    def _go_on(self, one: Running) -> None:
        """The start-up or a level of a trial has come to its end."""
        one.measure(self.found)
        fails = bool(self.found.failure[one.row])
        level = None if fails else self.next_level(self.found, one.measured, self.incumbent)
        if level is not None:
            self._later(one, one.level_s(self.found, level))
            return
        if one.is_whole(self.found) and trial.inside(one.measured) > trial.inside(self.incumbent):
            self.incumbent = one.measured
        self.crashed += fails
        self.search.tell(one.job.number, trial.outcome(self.found, one))
        self.ended.append((self.clock.at, self._recommended()))

    def _confirmed(self) -> tuple[float | None, int]:
        """Contenders and default measured in turn, as at the end of a sweep; what is recommended then."""
        self.search.limits = Limits(confirm=None)
        rounds = 0
        while job := self.search.confirmation():
            row = self.found.row(job.params)
            if row is None:
                break
            rounds += 1
            one = trial.begun(self.found, job, row, self.seed, self.had[row])
            self.had[row] += 1
            one.measure_all(self.found)
            self.search.tell(job.number, trial.outcome(self.found, one))
        seen = self.search.study.seen()
        base = policy.baseline(seen)
        if base is None:
            return None, rounds
        winner = policy.decision(seen, base, self.search.limits, is_maximised=True).winner
        return self._true(seen, base.number if winner is None else winner), rounds

    def _recommended(self) -> float:
        """The true score of what would be recommended now, as a share of the best."""
        seen = self.search.study.seen()
        number = recommended(seen)
        return 0.0 if number is None else self._true(seen, number)

    def _true(self, seen: Sequence[Seen], number: int) -> float:
        row = self.found.row(next(one.params for one in seen if one.number == number))
        return float(self.found.truth[row] / self.best) if row is not None else 0.0


def recommended(seen: Sequence[Seen]) -> int | None:
    """The trial that a search would recommend: its first contender, else the baseline, else whatever has a result."""
    if base := policy.baseline(seen):
        return next(iter(policy.contenders(seen, base, is_maximised=True)), base.number)
    found = policy.means([one for one in seen if one.is_feasible])
    return max(found, key=lambda number: found[number], default=None)


def play(found: Landscape, strategy: Strategy, seed: int, budget: Budget, earlier: Sequence[Earlier] = ()) -> Run:
    """One search from its start to the end of its budget."""
    with quiet():
        return Play(found, strategy, seed, budget, earlier=earlier).run()


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna does not say that the multivariate TPE is experimental."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental.*")
        yield
