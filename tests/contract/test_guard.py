"""The guard of the tests' own servers removes them, whatever ends it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.machine import process
from support.places import ROOT, TESTS

GUARD = "from parts.guard import until_the_end; until_the_end(); print('removes')"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, None])
def test_a_guard_removes_when_it_is_signalled_and_when_its_owner_ends(number: signal.Signals | None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GUARD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{ROOT}:{TESTS}"},
    ) as guard:
        if number is not None:
            assert process.wait_until(lambda: _catches(guard.pid, number), timeout_s=180)
            guard.send_signal(number)
        out, _ = guard.communicate(timeout=60)  # closes its stdin, as an owner's end does
    assert (out, guard.returncode) == ("removes\n", 0)


def _catches(pid: int, number: signal.Signals) -> bool:
    """Source: proc(5), SigCgt: a mask in which signal 1 is the lowest bit; HUP is set last."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return all(mask >> (each - 1) & 1 for each in (number, signal.SIGHUP))
