"""A sweep of given configurations: `python -m benchmarks.parts.listed -m <overrides>`, which is `servetune -m` itself.

Its trials are the sweeper `tuner`'s, so it resumes; only its sampler, `Listed`, proposes what a file lists. It ends
with the process that started it, however that ends.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from pipeline.__main__ import main
from pipeline.machine import owner
from pipeline.sweep.search import codecs as codec
from pipeline.sweep.search import study as words
from pipeline.sweep.search.codecs import Codec
from pipeline.sweep.search.space import Choice, Foresee, Space
from pipeline.sweep.tuner import samplers

NAME = "benchmarks.parts.listed"


class Listed(BaseSampler):
    """Proposes the combinations of a JSON file, in their order, each once."""

    def __init__(self, path: str, seed: None = None) -> None:
        """`seed`: unused, as its option has one."""
        self.rows: Sequence[Mapping[str, str]] = json.loads(Path(path).read_text())
        self.codecs: Mapping[str, Codec] = {}

    def inform(self, space: Space, codecs: Mapping[str, Codec], foresee: Foresee) -> None:
        """How Optuna stores the space, and how the space spells its values: Hydra reads `false` as False."""
        self.codecs = codecs
        spelled = {
            one.name: {each.lower(): each for each in one.values} for one in space.dimensions if isinstance(one, Choice)
        }
        self.rows = [
            {name: spelled.get(name, {}).get(pick.lower(), pick) for name, pick in row.items()} for row in self.rows
        ]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space."""
        return {name: each.distribution for name, each in self.codecs.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The first one that was not proposed yet."""
        told = [one.user_attrs.get(words.NEXT, {}) for one in study.get_trials(deepcopy=False)]
        had = [_texts(one["params"]) for one in told if one.get("params") is not None]
        return codec.to_optuna(self.codecs, next((row for row in self.rows if row not in had), {}))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random, where the list has come to its end: no script asks for more."""
        drawn = RandomSampler(seed=trial.number).sample_independent(study, trial, param_name, param_distribution)
        return self.codecs[param_name].on_list(drawn)


def overrides(path: Path) -> list[str]:
    """The overrides of a sweep that goes through the file at `path`."""
    key = "hydra.sweeper.sampler"
    return ["hydra/sweeper/sampler=random", f"{key}._target_={NAME}.Listed", f"+{key}.path='{path}'"]


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(pick) for name, pick in params.items()}


if __name__ == "__main__":
    owner.obey()
    samplers.TRUSTED.append(f"{NAME}.*")
    sys.exit(main())
