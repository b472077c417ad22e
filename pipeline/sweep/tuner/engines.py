"""The engines of a sweep that has several, and the overrides of each: what Hydra itself cannot make a tree of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, flag_override

from pipeline.config import sides, spaces
from pipeline.config.sides import Knobs
from pipeline.core.sides import RUNTIME, of_words


@dataclass(frozen=True, slots=True)
class Engines:
    """Of a sweep of several engines: its overrides, the knobs of each, and those that cannot run here."""

    words: tuple[str, ...] = ()
    knobs: Knobs = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset()  # all that the command may choose among

    def parsed(
        self, parser: OverridesParser, params: Mapping[Any, Any], arguments: Sequence[str], alone: str
    ) -> dict[str, Override]:
        """The overrides by their keys.

        `params`: as in hydra.sweeper. `alone`: the engine of the tree, where no override names one.
        """
        lines = [*spaces.lines_of(params), *(self.words or arguments)]
        found = {each.get_key_element(): each for each in parser.parse_overrides(lines)}
        only = str(found[RUNTIME].value()) if RUNTIME in found else alone
        found = sides.present(found, self.knobs or [only], self.options)
        if self.knobs:
            return sides.arranged(found, self.knobs)
        keys = {key: sides.owner(key, [only])[1] for key in found}
        return {bare: found[key] if bare == key else sides.renamed(found[key], bare) for key, bare in keys.items()}

    def write_into(self, tree: DictConfig) -> None:
        """Put the overrides of the command into Hydra's own list, which has only those that it can make a tree of."""
        if self.words:
            with flag_override(tree.hydra.overrides, "readonly", False):
                tree.hydra.overrides.task = [*self.words]

    def trial(self, lines: Sequence[str]) -> list[str]:
        """The overrides of one trial, for its engine alone."""
        return sides.trial(lines, self.knobs)

    def knobs_of(self, lines: Sequence[str], alone: Collection[Any]) -> Collection[Any]:
        """Of the engine of a trial; `alone`: where there are not several."""
        return self.knobs.get(of_words(lines) or "", alone) if self.knobs else alone
