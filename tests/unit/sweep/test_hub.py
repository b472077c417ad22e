"""Samplers of OptunaHub, whose registry is played: nothing is fetched."""

import sys
from types import SimpleNamespace

import pytest
from optuna.samplers import RandomSampler

from pipeline.core.errors import ConfigError
from pipeline.sweep.search import hub


def test_a_sampler_is_loaded_by_package_and_class(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = {"samplers/dice": SimpleNamespace(Dice=RandomSampler)}
    monkeypatch.setitem(sys.modules, "optunahub", SimpleNamespace(load_module=registry.__getitem__))
    assert isinstance(hub.sampler("samplers/dice", "Dice", seed=1), RandomSampler)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"needs hydra\.sweeper\.sampler\.module"):
        hub.sampler(None, "Dice")
    monkeypatch.setitem(sys.modules, "optunahub", None)
    with pytest.raises(ConfigError, match="needs the package optunahub"):
        hub.sampler("samplers/dice", "Dice")
