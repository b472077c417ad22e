"""Our strategy as a sampler of Optuna's: reads the study's trials, proposes, and says why. The only one with Optuna."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from pipeline.core.errors import ConfigError
from pipeline.core.values import parse, plain
from pipeline.sweep.search import codecs as codec
from pipeline.sweep.search import study as words
from pipeline.sweep.search.codecs import Codec
from pipeline.sweep.search.policy import Next
from pipeline.sweep.search.space import Foresee, Space
from pipeline.sweep.search.strategy.candidates import Candidates
from pipeline.sweep.search.strategy.earlier import Earlier
from pipeline.sweep.search.strategy.propose import Proposer, Switches
from pipeline.sweep.search.strategy.told import Told


class Strategy(BaseSampler):
    """A Gaussian process with a crash model. Never proposes what cannot start, or was measured under another name."""

    def __init__(self, seed: int | None = None, **switches: Any) -> None:
        """`switches`: those of `propose.Switches`.

        Raises:
            ConfigError: one that cannot be used.
        """
        try:
            self.switches = parse(Switches, switches)
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            raise ConfigError(f"hydra.sweeper.sampler.{found['loc'][-1]}={found['input']}: {found['msg']}.") from error
        if seed is not None and (type(seed) is not int or seed < 0):
            raise ConfigError(f"hydra.sweeper.sampler.seed={seed}: expected a whole number, 0 or more, or null.")
        self.seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._candidates: Candidates | None = None
        self._codecs: Mapping[str, Codec] = {}
        self._proposer: Proposer | None = None
        self._ended: dict[int, Told | None] = {}
        self._earlier: Sequence[Earlier] = ()

    def learn(self, earlier: Sequence[Earlier]) -> None:
        """What earlier sweeps found, in the words of this one's space."""
        self._earlier, self._proposer = tuple(earlier), None

    def inform(self, space: Space, codecs: Mapping[str, Codec], foresee: Foresee) -> None:
        """The space with its order, how Optuna stores it, and which combinations can start."""
        had = self._candidates
        if had is None or had.space != space or had.foresee != foresee:
            self._candidates, self._proposer, self._ended = Candidates(space, foresee), None, {}
        self._codecs = codecs

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space."""
        return {name: each.distribution for name, each in self._codecs.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A proposal, whose reason becomes an attribute of the trial; nothing where no free combination turns up.

        Raises:
            ConfigError: nobody has told it the space.
        """
        if self._candidates is None:
            raise ConfigError("The sampler servetune needs hydra/sweeper=tuner; Hydra's own sweepers have others.")
        if self._proposer is None:
            is_maximised = [each == StudyDirection.MAXIMIZE for each in study.directions]
            self._proposer = Proposer(self._candidates, self.switches, is_maximised, self._earlier)
        trials = self._told(study, trial.number)
        # Their count is the number of this one, but for asked ones of processes that ended: nobody knows of those
        found = self._proposer.next(trials, np.random.default_rng([self.seed, len(trials)]))
        if found is None:
            return {}
        study._storage.set_trial_user_attr(trial._trial_id, words.REASON, plain(found.reason))  # noqa: SLF001
        return codec.to_optuna(self._codecs, found.params)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random: asked only where there is no proposal."""
        from optuna.samplers import RandomSampler

        own = np.random.default_rng([self.seed, trial.number, *param_name.encode()])  # else all knobs have one draw
        picked = RandomSampler(seed=int(own.integers(2**31))).sample_independent(
            study, trial, param_name, param_distribution
        )
        return self._codecs[param_name].on_list(picked)

    def _told(self, study: Study, asked: int) -> list[Told]:
        """Every trial but the one that is asked for; of those that have ended, each is read once."""
        found = []
        for trial in study.get_trials(deepcopy=False):
            if trial.number == asked or trial.state == TrialState.WAITING:
                continue
            if trial.number not in self._ended:
                self._ended[trial.number] = told(trial)
            if (one := self._ended[trial.number]) is not None:
                found.append(one)
            if trial.state == TrialState.RUNNING:
                del self._ended[trial.number]
        return found


def told(trial: FrozenTrial) -> Told | None:
    """What a trial of a study says; None where it was measured under other traffic, or never began."""
    attributes = trial.user_attrs
    what = parse(Next, attributes.get(words.NEXT, {}))
    if what.params is None or what.phase == "held_out":
        return None
    return Told(
        params=what.params,
        values=tuple(attributes.get(words.RESULT, ())),
        is_feasible=all(amount <= 0 for amount in trial.constraints.values()),
        outside=attributes.get(words.OUTSIDE),
        failure=attributes.get(words.FAILURE),
        is_running=trial.state == TrialState.RUNNING,
        resolved=attributes.get(words.RESOLVED, {}),
    )
