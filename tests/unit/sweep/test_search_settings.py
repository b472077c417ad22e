"""A search's own settings are looked at with the rest of the command: a dry run refuses what the sweep would."""

from pathlib import Path

import pytest

from pipeline.config import command_line
from pipeline.core.errors import ConfigError
from pipeline.sweep import tuner

SAMPLER, STORAGE = "hydra.sweeper.sampler", "hydra.sweeper.storage"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((f"{SAMPLER}.seed=x",), f"{SAMPLER}.seed=x: expected a whole number, 0 or more, or null."),
        ((f"{SAMPLER}.seed=-1",), f"{SAMPLER}.seed=-1: expected a whole number"),
        (("hydra/sweeper/sampler=tpe", f"{SAMPLER}.seed=1.5"), f"{SAMPLER}.seed=1.5: expected a whole number."),
        ((f"{SAMPLER}.start=many",), f"{SAMPLER}.start=many"),
        ((f"{SAMPLER}._target_=nosuch.Thing",), f"{SAMPLER}._target_=nosuch.Thing is no sampler that can be used"),
        ((f"+{SAMPLER}.foo=3",), f"{SAMPLER}"),
        (("hydra/sweeper/sampler=qmc", f"{SAMPLER}.qmc_type=foo"), "Choose either `halton` or `sobol`"),
        (("hydra/sweeper/sampler=optunahub",), "needs hydra.sweeper.sampler.module"),
        ((f"{STORAGE}=sqlite:////no/such/x.db",), f"{STORAGE}=sqlite:////no/such/x.db: /no/such is no folder"),
        ((f"{STORAGE}=sqlite:////tmp",), f"{STORAGE}=sqlite:////tmp: /tmp is a folder"),
        ((f"{STORAGE}=/no/such/x.log",), f"{STORAGE}=/no/such/x.log: /no/such is no folder"),
        ((f"{STORAGE}=nosuch://host/name",), f"{STORAGE} cannot be opened: NoSuchModuleError"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_what_a_search_would_refuse(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command_line.check([*words, "n_threads=1,2", "dry_run=true"], is_sweep=True, search=tuner.check)
    assert told in str(caught.value)


@pytest.mark.parametrize("sampler", ["servetune", "tpe", "random", "grid", "qmc", "nsgaii", "gp"])
def test_each_sampler_is_well(sampler: str, tmp_path: Path) -> None:
    words = [f"hydra/sweeper/sampler={sampler}", f"{SAMPLER}.seed=1", f"{STORAGE}=sqlite:///{tmp_path}/study.db"]
    command_line.check([*words, "n_threads=1,2"], is_sweep=True, search=tuner.check)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("reason=foo", "reason=foo: leave it out."),
        ("reason={by: somebody}", "leave it out."),
        ("cache_dir=3", "cache_dir=3: expected the folder of earlier sweeps, or null."),
    ],
)
def test_keys_beside_the_configuration(word: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command_line.check([word, "dry_run=true"], is_sweep=False)
    assert told in str(caught.value)


def test_a_folder_of_earlier_sweeps_that_is_not_there_is_warned_about() -> None:
    found = command_line.check(["cache=read", "cache_dir=/no/such"], is_sweep=False)
    assert found.warnings == ("cache_dir=/no/such is no folder: nothing is taken over",)
