"""What a study does for its sampler: tells ours more than Optuna would, and puts others' proposals on the lists."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.sweep.search.codecs import Codec
from pipeline.sweep.search.space import Foresee, Space


@runtime_checkable
class Informed(Protocol):
    """A sampler that wants to know more than Optuna tells."""

    def inform(self, space: Space, codecs: Mapping[str, Codec], foresee: Foresee) -> None:
        """The space with its order, how Optuna stores it, and which combinations can start."""


class OnLists(BaseSampler):
    """Another sampler, whose proposals between the numbers of a list are put on the nearest one."""

    def __init__(self, sampler: BaseSampler, codecs: Mapping[str, Codec]) -> None:
        self.sampler, self.codecs = sampler, codecs

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The other one's."""
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The other one's, on the lists."""
        found = self.sampler.sample_relative(study, trial, search_space)
        return {name: self.codecs[name].on_list(pick) for name, pick in found.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The other one's, on the list."""
        found = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return self.codecs[param_name].on_list(found)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """The other one's."""
        self.sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """The other one's."""
        self.sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """The other one's."""
        self.sampler.reseed_rng()


def prepared(sampler: BaseSampler, space: Space, codecs: Mapping[str, Codec], foresee: Foresee) -> BaseSampler:
    """The sampler as a study uses it."""
    if isinstance(sampler, Informed):
        sampler.inform(space, codecs, foresee)
        return sampler
    return sampler if isinstance(sampler, OnLists) else OnLists(sampler, codecs)


def learns_from_pruned(sampler: BaseSampler) -> bool:
    """Whether it puts a trial without a value, outside of a constraint, among the bad ones: others look at none."""
    return isinstance(sampler.sampler if isinstance(sampler, OnLists) else sampler, TPESampler)
