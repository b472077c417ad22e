"""The Optuna study of a sweep: its trials as `Seen`, and what changes them.

An Optuna trial's number is the trial's number and the name of its folder. What Optuna has no word for is in user
attributes: `next` (what the trial is), `owner` (the process that runs it), `result` (its values, whatever its state).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core.errors import FailureKind, PipelineError
from pipeline.core.reasons import Reason
from pipeline.core.sides import RUNTIME
from pipeline.core.values import Scalar, from_json, parse, plain, to_json, value
from pipeline.machine import identity
from pipeline.machine.identity import Identity
from pipeline.sweep.search import agreement, codecs, samplers, storages
from pipeline.sweep.search.outcome import Outcome
from pipeline.sweep.search.policy import Next, Seen
from pipeline.sweep.search.space import Foresee, Params, Space, as_asked
from pipeline.sweep.search.storages import Store

Direction = Literal["maximize", "minimize"]
NEXT, OWNER, RESULT, ANSWERED, GPU_HOURS, BEAT = "next", "owner", "result", "answered", "gpu_hours", "alive"
PLACE, POINTS, SAME_AS, FAILURE = "place", "points", "same_as", "failure"  # as outcome.py calls them
OUTSIDE, RESOLVED, RACED = "outside", "resolved", "raced"  # likewise
REASON, CRASH = "reason", "crash"  # why the sampler proposed it; a constraint: 1 for a trial that failed
RECORD, CONFIRMS = "record", "confirms"  # for hosts that share no folder; the process that measures the contenders
SILENT_S = 300.0  # a process of another machine that has not been heard of for so long is gone


@value
class Job:
    """A trial of the study that this process is to run."""

    number: int
    what: Next
    params: Params
    is_again: bool = False  # somebody else had begun it and is gone


class Study:
    """A study that may be shared with other processes. Every change happens inside `locked`."""

    def __init__(  # noqa: PLR0913 - what a study is told once
        self,
        store: Store,
        name: str,
        space: Space,
        directions: Sequence[Direction],
        *,
        fixed: Sequence[str] | None = None,
        learns: Sequence[str] = (),
        is_plain: bool = False,
    ) -> None:
        """Open the study, made if it is missing; in a turn of one's own.

        `fixed`: the overrides that all its trials have. `learns`: folders of earlier sweeps, with fingerprints.
        `is_plain`: Optuna as it comes, to compare with: it is told neither the order of lists nor what failed.

        Raises:
            ConfigError: it is another search.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the progress table owns the terminal
        self.space, self.turn, self.storage, self.is_plain = space, store.turn, store.storage, is_plain
        self.optuna = optuna.create_study(
            storage=self.storage, study_name=name, directions=list(directions), load_if_exists=True
        )
        self.foresee: Foresee = as_asked  # asked before a combination is proposed
        self.me = to_json(identity.of())
        self.running: dict[int, Trial] = {}
        self._ended: dict[int, Seen] = {}
        agreement.reach(self.optuna, agreement.of(space, directions, learns, fixed))
        self.codecs = codecs.of(space, self._distributions(), is_named=is_plain)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other process asks meanwhile.

        Raises:
            PipelineError: the database does not answer.
        """
        try:
            with self.turn():
                yield
        except (SQLAlchemyError, StorageInternalError) as error:
            raise PipelineError(
                f"The study's database does not answer: {type(error).__name__}.",
                hint="Give the same command again when it does: the search goes on.",
            ) from error

    def seen(self) -> list[Seen]:
        """Every trial that has begun, by number."""
        found = []
        for trial in self.optuna.get_trials(deepcopy=False):
            if trial.state != TrialState.WAITING:
                found.append(self._ended.get(trial.number) or _seen(trial))
                if found[-1].state != "running":
                    self._ended[trial.number] = found[-1]
        return found

    def begin(self, wanted: Next) -> Job:
        """A new trial of ours: what is wanted, or what the sampler proposes."""
        self.optuna.sampler = samplers.prepared(self.optuna.sampler, self.space, self.codecs, self.foresee)
        if wanted.params is not None:
            inside = codecs.to_optuna(self.codecs, wanted.params) if self.space.holds(wanted.params) else {}
            waiting = self.optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            if not any(one.user_attrs.get(NEXT) == plain(wanted) for one in waiting):  # else a process ended here
                self.optuna.enqueue_trial(inside, user_attrs={NEXT: plain(wanted)})
        trial = self.optuna.ask()
        told = trial.user_attrs.get(NEXT)
        what = parse(Next, told) if told else Next()
        if what.params is None:
            params = self._suggested(trial)
            why = self.storage.get_trial(trial._trial_id).user_attrs.get(REASON)  # noqa: SLF001 - `trial` has a copy
            what = replace(what, reason=parse(Reason, why or {"by": "sampler"}))
        else:
            params = dict(what.params)
            if self.space.holds(params):
                self._suggested(trial)
        trial.set_user_attr(NEXT, plain(replace(what, params=params)))
        return self._ours(trial, Job(number=trial.number, what=what, params=params))

    def _suggested(self, trial: Trial) -> dict[str, Scalar]:
        """The parameters of a trial in the words of the space; asked of the sampler unless they are given."""
        suggest = trial._suggest  # noqa: SLF001 - the public ones want to be told the kind
        found: dict[str, Scalar] = {}  # the engine first: it says which of the others are asked for
        for name, each in self.codecs.items():
            if self.space.owner(name) in {None, found.get(RUNTIME)}:
                found[name] = each.from_optuna(suggest(name, each.distribution))
        return found

    def _distributions(self) -> dict[str, BaseDistribution]:
        """Of the trials there are: a study that was begun with categories goes on with them."""
        trials = self.optuna.get_trials(deepcopy=False)
        return {name: each for trial in trials for name, each in trial.distributions.items()}

    def orphan(self) -> Job | None:
        """A trial whose process is gone, now ours; the first of them."""
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number not in self.running and not self._is_alive(trial.user_attrs.get(OWNER)):
                again = Trial(self.optuna, trial._trial_id)  # noqa: SLF001 - there is no other way to go on with one
                what = parse(Next, trial.user_attrs.get(NEXT, {}))
                if what.params is None:  # it ended between asking and telling us of it: no configuration was begun
                    again.set_user_attr(ANSWERED, True)
                    self.optuna.tell(trial.number, state=TrialState.FAIL)
                    continue
                return self._ours(again, Job(number=trial.number, what=what, params=what.params, is_again=True))
        return None

    def others(self) -> bool:
        """Whether another process that lives is at a trial."""
        running = self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return any(t.number not in self.running and self._is_alive(t.user_attrs.get(OWNER)) for t in running)

    def may_confirm(self) -> bool:
        """Whether this process is the one that confirms: the first that asks, until it is done or gone."""
        is_free = not self._is_confirmed_elsewhere()
        if is_free and self.optuna.user_attrs.get(CONFIRMS) != self.me:
            self.optuna.set_user_attr(CONFIRMS, self.me)
        return is_free

    def confirmed(self) -> None:
        """All is confirmed that can be."""
        if self.optuna.user_attrs.get(CONFIRMS):
            self.optuna.set_user_attr(CONFIRMS, "")

    def is_at_work(self) -> bool:
        """Whether another process that lives is at a trial, or confirms."""
        return self.others() or self._is_confirmed_elsewhere()

    def _is_confirmed_elsewhere(self) -> bool:
        owner = self.optuna.user_attrs.get(CONFIRMS)
        return bool(owner) and owner != self.me and self._is_alive(owner)

    def records(self) -> Mapping[int, str]:
        """The records of trials that have ended, packed, where they are kept in the study."""
        trials = self.optuna.get_trials(deepcopy=False)
        return {trial.number: told for trial in trials if (told := trial.user_attrs.get(RECORD)) is not None}

    def tell(self, number: int, outcome: Outcome) -> None:
        """End a trial of ours."""
        trial = self.running.pop(number)
        what = parse(Next, trial.user_attrs[NEXT])
        own = {GPU_HOURS: outcome.gpu_hours, ANSWERED: outcome.is_answered, RESULT: list(outcome.values)}
        for name, item in {**outcome.attributes, **own}.items():
            if item is not None:
                trial.set_user_attr(name, item)
        for name, amount in outcome.constraints.items():
            trial.set_constraint(name, amount)
        is_known = self.space.holds(what.params or {}) or self._place_by_resolved(trial, what, outcome)
        if outcome.values and what.phase != "held_out" and is_known:
            self.optuna.tell(number, list(outcome.values))
        elif is_known and outcome.is_by_configuration and self._learns_from_failures():
            trial.set_constraint(CRASH, 1.0)  # no value is made up
            self.optuna.tell(number, state=TrialState.PRUNED)
        else:  # of no use to the sampler; what was measured is in `result`
            self.optuna.tell(number, state=TrialState.FAIL)

    def _learns_from_failures(self) -> bool:
        return not self.is_plain and samplers.learns_from_pruned(self.optuna.sampler)

    def _place_by_resolved(self, trial: Trial, what: Next, outcome: Outcome) -> bool:
        """Tell Optuna where a baseline beside the space lies in it, if the engine said so; whether it does."""
        told = outcome.attributes.get(RESOLVED)
        meant = self.space.placed(what.params or {}, told if isinstance(told, dict) else {})
        if meant is None or what.repeat_of is not None:
            return False
        for name, pick in codecs.to_optuna(self.codecs, meant).items():
            each = self.codecs[name].distribution
            self.storage.set_trial_param(trial._trial_id, name, each.to_internal_repr(pick), each)  # noqa: SLF001
        return True

    def gpu_hours(self) -> float:
        """Used by all trials that have ended."""
        return sum(float(t.user_attrs.get(GPU_HOURS, 0.0)) for t in self.optuna.get_trials(deepcopy=False))

    def close(self) -> None:
        """Give back the connection of this thread."""
        self.storage.remove_session()

    def beat(self) -> None:
        """Let other machines know that this process lives."""
        self.optuna.set_user_attr(_beat(from_json(Identity, self.me)), time.time())

    def _ours(self, trial: Trial, job: Job) -> Job:
        trial.set_user_attr(OWNER, self.me)
        self.running[job.number] = trial
        return job

    def _is_alive(self, owner: str | None) -> bool:
        if owner is None:
            return False
        who = from_json(Identity, owner)
        if who.host == from_json(Identity, self.me).host:
            return identity.is_alive(who)
        heard: float | None = self.optuna.user_attrs.get(_beat(who))
        return heard is not None and time.time() - heard < SILENT_S


def opened(  # noqa: PLR0913 - what a study is told once
    url: str,
    name: str,
    space: Space,
    directions: Sequence[Direction],
    lock: str,
    *,
    fixed: Sequence[str] | None = None,
    learns: Sequence[str] = (),
    is_alone: bool = False,
) -> Study:
    """The study in a storage, one process after the other: the first one makes the tables.

    `lock`: the name of its turns. `is_alone`: the storage is this study's; then it counts by whatever name.

    Raises:
        ConfigError: it cannot be opened, or is another search.
    """
    with storages.opened(url, lock) as store:
        there = storages.only(store) if is_alone else None
        return Study(store, there or name, space, directions, fixed=fixed, learns=learns)


def in_memory(space: Space, directions: Sequence[Direction], *, is_plain: bool = False) -> Study:
    """A study of this process alone, which leaves nothing."""
    return Study(storages.in_memory(), "memory", space, directions, is_plain=is_plain)


def _seen(trial: FrozenTrial) -> Seen:
    what = parse(Next, trial.user_attrs.get(NEXT, {}))
    values = tuple(trial.user_attrs.get(RESULT, ()))
    return Seen(
        number=trial.number,
        state="running" if trial.state == TrialState.RUNNING else "complete" if values else "failed",
        params=what.params or {},
        values=values,
        is_feasible=all(amount <= 0 for amount in trial.constraints.values()),
        is_answered=bool(trial.user_attrs.get(ANSWERED)),
        same_as=trial.user_attrs.get(SAME_AS),
        is_raced=bool(trial.user_attrs.get(RACED)),
        is_stopped=trial.user_attrs.get(FAILURE) == FailureKind.STOPPED,
        place=trial.user_attrs.get(PLACE, ""),
        points=tuple(map(tuple, trial.user_attrs.get(POINTS, ()))),
        repeat_of=what.repeat_of,
        phase=what.phase,
        is_baseline=what.is_baseline,
    )


def _beat(who: Identity) -> str:
    return f"{BEAT} {who.host} {who.pid}"
