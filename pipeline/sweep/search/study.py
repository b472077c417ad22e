"""The Optuna study of a sweep: its trials as `Seen`, and what changes them. The only module that imports optuna.

An Optuna trial's number is the trial's number and the name of its folder. What Optuna has no word for is in user
attributes: `next` (what the trial is), `owner` (the process that runs it), `result` (its values, whatever its state).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.core.errors import BY_SURROUNDINGS, ConfigError
from pipeline.core.reasons import Reason
from pipeline.core.values import Scalar, from_json, parse, plain, to_json, value
from pipeline.machine import identity, locks
from pipeline.machine.identity import Identity
from pipeline.sweep.search import codecs, samplers
from pipeline.sweep.search.outcome import Outcome
from pipeline.sweep.search.policy import Next, Seen
from pipeline.sweep.search.space import Foresee, Params, Space, as_asked

Direction = Literal["maximize", "minimize"]
NEXT, OWNER, RESULT, ANSWERED, GPU_HOURS, BEAT = "next", "owner", "result", "answered", "gpu_hours", "alive"
PLACE, POINTS, SAME_AS, FAILURE = "place", "points", "same_as", "failure"  # as outcome.py calls them
OUTSIDE, RESOLVED, RACED = "outside", "resolved", "raced"  # likewise
REASON = "reason"  # why the sampler proposed it
CRASH = "crash"  # a constraint: 1 for a trial that failed
SILENT_S = 300.0  # a process of another machine that has not been heard of for so long is gone
BUSY_S = 60.0  # to wait for the database while others write


@value
class Job:
    """A trial of the study that this process is to run."""

    number: int
    what: Next
    params: Params
    is_again: bool = False  # somebody else had begun it and is gone


class Study:
    """A study that may be shared with other processes. Every change happens inside `locked`."""

    def __init__(
        self, storage: BaseStorage, name: str, space: Space, directions: Sequence[Direction], lock: str | None
    ) -> None:
        """Open the study, made if it is missing. `lock`: None where it is in memory, and nobody shares it.

        Raises:
            ConfigError: it is a search in another space.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the progress table owns the terminal
        self.space, self.lock, self.storage = space, lock, storage
        self.optuna = optuna.create_study(
            storage=storage, study_name=name, directions=list(directions), load_if_exists=True
        )
        self.foresee: Foresee = as_asked  # asked before a combination is proposed
        self.me = to_json(identity.of())
        self.running: dict[int, Trial] = {}
        self._ended: dict[int, Seen] = {}
        self.agree("space", [to_json(one) for one in space.dimensions])
        self.agree("directions", list(directions))
        self.codecs = codecs.of(space, self._distributions())

    def agree(self, name: str, told: list[str]) -> None:
        """Make sure that all processes on this study, also later ones, mean the same.

        Raises:
            ConfigError: it was begun with something else.
        """
        seen = self.optuna.user_attrs.get(name)
        if seen is None:
            self.optuna.set_user_attr(name, told)
        elif seen != told:
            had, has = (
                " ".join(item for item in one if item not in other) for one, other in ((seen, told), (told, seen))
            )
            raise ConfigError(
                f"This search was started with {name} {had or '-'}, but this command has {has or '-'}: repeat the "
                f"original command, or set another hydra.sweep.dir (or hydra.sweeper.study_name)."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other process of this machine asks meanwhile."""
        with _locked(self.lock) if self.lock else nullcontext():
            yield

    def seen(self) -> list[Seen]:
        """Every trial that has begun, by number."""
        found = []
        for trial in self.optuna.get_trials(deepcopy=False):
            if trial.number not in self._ended and trial.state != TrialState.WAITING:
                one = _seen(trial)
                if one.state == "running":
                    found.append(one)
                    continue
                self._ended[trial.number] = one
            if trial.number in self._ended:
                found.append(self._ended[trial.number])
        return found

    def begin(self, wanted: Next) -> Job:
        """A new trial of ours: what is wanted, or what the sampler proposes."""
        self.optuna.sampler = samplers.prepared(self.optuna.sampler, self.space, self.codecs, self.foresee)
        if wanted.params is not None:
            inside = codecs.to_optuna(self.codecs, wanted.params) if self.space.holds(wanted.params) else {}
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
        return {name: each.from_optuna(suggest(name, each.distribution)) for name, each in self.codecs.items()}

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
                if what.params is None:  # it ended between asking and telling us of it
                    self.optuna.tell(trial.number, state=TrialState.FAIL)
                    continue
                return self._ours(again, Job(number=trial.number, what=what, params=what.params, is_again=True))
        return None

    def others(self) -> bool:
        """Whether another process that lives is at a trial."""
        running = self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return any(t.number not in self.running and self._is_alive(t.user_attrs.get(OWNER)) for t in running)

    def tell(self, number: int, outcome: Outcome) -> None:
        """End a trial of ours."""
        trial = self.running.pop(number)
        what = parse(Next, trial.user_attrs[NEXT])
        told = {**outcome.attributes, GPU_HOURS: outcome.gpu_hours, ANSWERED: outcome.is_answered}
        for name, item in {**told, RESULT: list(outcome.values)}.items():
            if item is not None:
                trial.set_user_attr(name, item)
        for name, amount in outcome.constraints.items():
            trial.set_constraint(name, amount)
        is_known = self.space.holds(what.params or {}) or self._place_by_resolved(trial, what, outcome)
        if outcome.values and what.phase != "held_out" and is_known:
            self.optuna.tell(number, list(outcome.values))
        elif is_known and is_by_configuration(outcome) and samplers.learns_from_pruned(self.optuna.sampler):
            trial.set_constraint(CRASH, 1.0)  # no value is made up
            self.optuna.tell(number, state=TrialState.PRUNED)
        else:  # of no use to the sampler; what was measured is in `result`
            self.optuna.tell(number, state=TrialState.FAIL)

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


def opened(url: str, name: str, space: Space, directions: Sequence[Direction], lock: str) -> Study:
    """The study in a storage, one process of this machine after the other: the first one makes the tables.

    Raises:
        ConfigError: it cannot be opened, or is a search in another space.
    """
    with _locked(lock):
        return Study(storage(url), name, space, directions, lock)


def in_memory(space: Space, directions: Sequence[Direction]) -> Study:
    """A study of this process alone, which leaves nothing."""
    return Study(InMemoryStorage(), "memory", space, directions, None)


@contextmanager
def _locked(lock: str) -> Iterator[None]:
    while (file := locks.take(lock)) is None:
        time.sleep(0.05)
    try:
        yield
    finally:
        locks.give_back([file])


def storage(url: str) -> BaseStorage:
    """Where the study is kept: a database by its SQLAlchemy URL, or a journal file by its path, ending in `.log`.

    Raises:
        ConfigError: it cannot be opened.
    """
    try:
        if url.endswith(".log") and "://" not in url:
            return JournalStorage(JournalFileBackend(url))
        wait = {"connect_args": {"timeout": BUSY_S}} if url.startswith("sqlite") else {}
        return RDBStorage(url, engine_kwargs=wait)
    except Exception as error:
        raise ConfigError(
            f"hydra.sweeper.storage cannot be opened: {type(error).__name__}. Expected a URL of a database, e.g. "
            f"postgresql://host/name, with its driver installed, or the path of a journal ending in .log."
        ) from error


def is_by_configuration(outcome: Outcome) -> bool:
    """Whether a trial failed because of what it was told to run, so that a sampler can learn from it."""
    kind = outcome.attributes.get(FAILURE)
    return not outcome.values and kind is not None and kind not in BY_SURROUNDINGS


def _origin(what: Next) -> dict[str, Any]:
    return {"repeat_of": what.repeat_of, "phase": what.phase, "is_baseline": what.is_baseline}


def _seen(trial: FrozenTrial) -> Seen:
    what = parse(Next, trial.user_attrs.get(NEXT, {}))
    values = tuple(trial.user_attrs.get(RESULT, ()))
    is_running = trial.state == TrialState.RUNNING
    return Seen(
        number=trial.number,
        state="running" if is_running else "complete" if values else "failed",
        params=what.params or {},
        values=values,
        is_feasible=all(amount <= 0 for amount in trial.constraints.values()),
        is_answered=bool(trial.user_attrs.get(ANSWERED)),
        same_as=trial.user_attrs.get(SAME_AS),
        is_raced=bool(trial.user_attrs.get(RACED)),
        place=trial.user_attrs.get(PLACE, ""),
        points=tuple(map(tuple, trial.user_attrs.get(POINTS, ()))),
        **_origin(what),
    )


def _beat(who: Identity) -> str:
    return f"{BEAT} {who.host} {who.pid}"
