"""The edges of `python -m pipeline`, where signals are heard already and nothing runs yet."""

import os
import signal
import sys
from contextlib import AbstractContextManager
from typing import Any

import pytest

from pipeline import __main__ as command
from pipeline.machine import signals


def test_a_signal_before_the_first_step_is_answered_like_any_other(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    held = signals.held

    def late() -> AbstractContextManager[None]:
        os.kill(os.getpid(), signal.SIGTERM)
        return held()

    monkeypatch.setattr(signals, "held", late)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # which it sets otherwise
    monkeypatch.setattr(sys, "argv", ["pipeline", "no_such_key=1"])
    assert command.main() == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "Stopped by SIGTERM.\n"


@pytest.mark.parametrize("words", [["--config-name", "mine"], ["-cn", "mine", "dry_run=true"], ["-cp", "mine", "-m"]])
def test_another_main_configuration_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pipeline", *words])
    assert command.main() == command.BAD_CONFIG
    assert "servetune has one configuration. Put yours into a file" in capsys.readouterr().err
