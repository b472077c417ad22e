"""The search in one process: which trial is next, and what its result was."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.core.errors import FailureKind
from pipeline.core.limits import SEARCH_SHARE, Limits
from pipeline.core.reasons import By, Reason
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
        baseline: Params | None,
        *,
        is_maximised: Sequence[bool],
        in_order: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_maximised`: of each objective. `in_order`: every combination in turn, without a sampler.

        `clock`: seconds since whenever.
        """
        self.study, self.limits, self.baseline, self.is_maximised = study, limits, baseline, is_maximised
        size = study.space.size if study.space.is_listable else None
        is_whole = size is not None and (limits.n_trials is None or size <= limits.n_trials)
        self.in_order = in_order or is_whole  # where all are run, their order is the one that was typed
        self.share = SEARCH_SHARE if limits.confirms and baseline is not None else 1.0
        self.clock, self.began = clock, clock()
        self.free = Candidates(study.space, study.foresee)

    def next(self) -> Job | None:
        """The next trial to run; None when no new one is to start."""
        with self.study.locked():
            if again := self.study.orphan():
                return again
            seen = self.study.seen()
            if wanted := policy.first(seen, self.baseline):
                return self.study.begin(wanted)
            if self._is_out_of_time(self.share):
                return None
            if wanted := policy.repeat(seen, self.limits):
                return self.study.begin(wanted)
            return None if policy.is_full(seen, self.limits) else self._new(seen)

    def confirmation(self) -> Job | None:
        """The next measurement that shows whether a contender beats the baseline; None when there is no more to do."""
        with self.study.locked():
            if self.study.others() or self._is_out_of_time(1.0):
                return None
            if again := self.study.orphan():
                return again
            wanted = policy.confirmation(self.study.seen(), self.limits, is_maximised=self.is_maximised)
            return self.study.begin(wanted) if wanted else None

    def tell(self, number: int, outcome: Outcome) -> None:
        """What became of a trial of ours."""
        with self.study.locked():
            self.study.tell(number, outcome)

    def _is_out_of_time(self, share: float) -> bool:
        elapsed_s = self.clock() - self.began
        return policy.is_out_of_time(self.limits, elapsed_s=elapsed_s, gpu_hours=self.study.gpu_hours(), share=share)

    def _new(self, seen: list[Seen]) -> Job | None:
        if self.in_order:
            params = policy.unseen(seen, self.study.space)
            return None if params is None else self._begin(params, "order")
        for _ in range(policy.PROPOSALS):
            job = self.study.begin(Next())
            twin = policy.same(seen, job.params)
            if twin is None and self.free.can_start(job.params):
                return job
            self._answer(job.number, twin)
            if twin and self.study.space.is_listable:
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
        if drawn is None and self.study.space.is_listable:
            drawn = next(filter(self.free.is_free, self.study.space.combinations()), None)
        return self._begin(drawn, "random") if drawn else None

    def _begin(self, params: Params, by: By) -> Job:
        return self.study.begin(Next(params=params, reason=Reason(by=by)))
