"""A recheck that is stopped: its trial is torn down first. That it compares: tests/unit/report/test_best.py."""

import os
import signal
from pathlib import Path

import pytest

from pipeline.core.record import Record
from pipeline.core.values import load
from pipeline.machine import process
from support.cli import command, pipeline
from support.places import FAKES
from support.sweeping import running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_stops_a_recheck_stops_its_trial(tmp_path: Path, tiny_gguf: Path, number: signal.Signals) -> None:
    swept = pipeline("parallel=4", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True)
    argv = [*command(sweep=False, module="pipeline.recheck"), str(swept.folder / "best")]
    with running([*argv, f"hydra.searchpath=[file://{FAKES}/conf]"], tmp_path, {"STUB_BENCH": "hang"}) as us:
        us.await_that(lambda: bool([*us.folder.glob("recheck/*/0/bench/*/*/console.log")]))
        if number == signal.SIGINT:  # a terminal tells the whole group
            os.killpg(us.child.pid, number)
        else:
            us.child.send_signal(number)
        result = us.end()
        assert process.wait_until(lambda: not us.processes(), timeout_s=10)
    (path,) = us.folder.glob("recheck/*/0/record.json")
    record = load(Record, path)
    assert record.teardown is not None
    assert (result.code, record.status, record.teardown.by) == (128 + number, "interrupted", "trial")
    assert "Traceback" not in result.err
    assert "Not as expected" not in result.out
