"""The search in one process: which trial is next, and what its result was."""

import time
from collections.abc import Callable, Collection, Sequence

import numpy as np

from pipeline.core.errors import FailureKind
from pipeline.core.limits import SEARCH_SHARE, Limits
from pipeline.core.reasons import By, Reason
from pipeline.core.sides import RUNTIME
from pipeline.sweep.search import policy
from pipeline.sweep.search.outcome import Outcome
from pipeline.sweep.search.policy import Next, Seen
from pipeline.sweep.search.space import Params
from pipeline.sweep.search.strategy.candidates import Candidates
from pipeline.sweep.search.study import Job, Study


class Search:
    """Asks the policy and the sampler, tells the study. Safe beside other processes on the same study."""

    def __init__(  # noqa: PLR0913 - the clock is replaced where time is simulated
        self,
        study: Study,
        limits: Limits,
        baselines: Sequence[Params],
        *,
        is_maximised: Sequence[bool],
        in_order: bool,
        left_out: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`baselines`: of each engine. `is_maximised`: of each objective. `in_order`: every combination in turn.

        `left_out`: engines that cannot run here. `clock`: seconds since whenever.
        """
        self.study, self.limits, self.is_maximised = study, limits, is_maximised
        self.space = study.space.without(left_out)
        self.baselines = [each for each in baselines if each.get(RUNTIME) not in left_out]
        size = self.space.size if self.space.is_listable else None
        is_whole = size is not None and (limits.n_trials is None or size <= limits.n_trials)
        self.in_order = in_order or is_whole  # where all are run, their order is the one that was typed
        self.share = SEARCH_SHARE if limits.confirms and self.baselines else 1.0
        self.clock, self.began = clock, clock()
        self.is_cut = False  # the time was over before the trials were
        self.free = Candidates(self.space, study.foresee)

    def next(self) -> Job | None:
        """The next trial to run; None when no new one is to start."""
        with self.study.locked():
            if again := self.study.orphan():
                return again
            seen = self.study.seen()
            if wanted := policy.first(seen, self.baselines):
                return self.study.begin(wanted)
            if self._is_out_of_time(self.share):
                self.is_cut = self._has_more(seen)
                return None
            if wanted := policy.repeat(seen, self.limits):
                return self.study.begin(wanted)
            return None if policy.is_full(seen, self.limits) else self._new(seen)

    def confirmation(self, barred: Collection[int] = ()) -> Job | None:
        """The next measurement that shows whether a contender beats the baseline; None when there is no more to do.

        `barred`: configurations that cannot win, for what they answer.
        """
        with self.study.locked():
            if self.study.others() or not self.study.may_confirm():
                return None
            if again := self.study.orphan():
                return again
            wanted = policy.confirmation(
                policy.without(self.study.seen(), barred),
                self.limits,
                is_maximised=self.is_maximised,
                engines=self.space.engines,
            )
            if wanted is None or self._is_out_of_time(1.0):
                self.study.confirmed()
                return None
            return self.study.begin(wanted)

    def is_at_work(self) -> bool:
        """Whether another process still is at this search."""
        with self.study.locked():
            return self.study.is_at_work()

    def tell(self, number: int, outcome: Outcome) -> None:
        """What became of a trial of ours."""
        with self.study.locked():
            self.study.tell(number, outcome)

    def _is_out_of_time(self, share: float) -> bool:
        elapsed_s = self.clock() - self.began
        return policy.is_out_of_time(self.limits, elapsed_s=elapsed_s, gpu_hours=self.study.gpu_hours(), share=share)

    def _has_more(self, seen: list[Seen]) -> bool:
        """Whether trials are left of those that were asked for; a search with a limit of time alone has no number."""
        space = self.space
        is_counted = space.is_listable or self.limits.n_trials is not None
        is_done = space.is_listable and policy.unseen(seen, space) is None
        return is_counted and not is_done and not policy.is_full(seen, self.limits)

    def _new(self, seen: list[Seen]) -> Job | None:
        if self.in_order:
            params = policy.unseen(seen, self.space)
            return None if params is None else self._begin(params, "order")
        for _ in range(policy.PROPOSALS):
            job = self.study.begin(Next())
            twin = policy.same(seen, job.params)
            if twin is None and self.space.holds(job.params) and self.free.can_start(job.params):
                return job
            self._answer(job.number, twin)
            if twin and self.space.is_listable:
                break
        return self._drawn(seen, job.number)

    def _answer(self, number: int, twin: Seen | None) -> None:
        """Tell a proposal that was run before, or that cannot start: nothing is deployed for it."""
        told = {"failure": str(FailureKind.UNSUPPORTED_COMBINATION)} if twin is None else {"same_as": twin.number}
        self.study.tell(number, Outcome(values=(), attributes=told, is_answered=True))

    def _drawn(self, seen: list[Seen], seed: int) -> Job | None:
        """Any combination that can start and was not run; None when there is none."""
        self.free.note((one.params for one in seen), {})
        drawn = self.free.any(np.random.default_rng(seed))
        if drawn is None and self.space.is_listable:
            drawn = next(filter(self.free.is_free, self.space.combinations()), None)
        return self._begin(drawn, "random") if drawn else None

    def _begin(self, params: Params, by: By) -> Job:
        return self.study.begin(Next(params=params, reason=Reason(by=by)))
