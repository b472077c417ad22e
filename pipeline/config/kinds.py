"""The kinds of trials of a command: what may matter to the place where they run. Nothing is started or written."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product

from hydra import initialize_config_dir
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from pipeline.config import spaces
from pipeline.config.command_line import composed, to_config
from pipeline.config.expand import base_of, with_knobs
from pipeline.config.spaces import Part
from pipeline.config.sweepers import baseline, line_of, values_of
from pipeline.core.places import CONF
from pipeline.core.schema import Config

LIGHT = ("slo", "objective", "tracker", "quality", "timeouts")  # sections that no check of the place looks at


def of(overrides: Sequence[str], *, is_sweep: bool) -> Iterator[Config]:
    """One configuration of each kind, one at a time; the baseline's first.

    Trials of a kind need the same of the place where they run: engine, model, backend, number of GPUs, users. They
    differ in the engine's other flags.
    """
    with initialize_config_dir(str(CONF)):
        if not is_sweep:
            yield to_config(composed(overrides))
            return
        for part in spaces.of(overrides).parts.values():
            yield from _of(part)


def by_engine(overrides: Sequence[str], most: int) -> dict[str, list[Config]]:
    """The kinds of a sweep's trials, of each of its engines apart; so many of each at most."""
    with initialize_config_dir(str(CONF)):
        return {engine: list(islice(_of(part), most)) for engine, part in spaces.of(overrides).parts.items()}


def _of(part: Part) -> Iterator[Config]:
    tree, found = part.tree, part.found
    knobs = frozenset(map(str, tree.runtime.knobs))
    swept = _deciding(found, tree, knobs)
    fixed = [
        line_of(each, None) for name, each in found.items() if name not in swept and not _varies(name, each, knobs)
    ]
    for chosen in product(*swept.values()):
        lines = [*fixed, *(f"{name}={pick}" for name, pick in zip(swept, chosen, strict=True))]
        own = [line for line in lines if line.split("=", 1)[0] in knobs]
        yield with_knobs(base_of(tuple(line for line in lines if line not in own)), own)


def _deciding(found: Mapping[str, Override], tree: DictConfig, knobs: frozenset[str]) -> dict[str, list[str]]:
    """The values of what is swept and decides the kind; a knob's begin with the baseline's."""
    of_gpus = {*tree.runtime.gpu_knobs, *tree.runtime.gpu_sharing}
    first = ["null"] if baseline(found, tree) is not None else []
    return {
        name: [*(first if name in knobs else []), *values_of(each)]
        for name, each in found.items()
        if each.is_sweep_override() and (name in of_gpus if name in knobs else name.split(".")[0] not in LIGHT)
    }


def _varies(name: str, each: Override, knobs: frozenset[str]) -> bool:
    """Whether it is a flag of the engine that is swept, and left out here."""
    return name in knobs and each.is_sweep_override()
