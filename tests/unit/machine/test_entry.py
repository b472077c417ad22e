"""Commands as processes: how they end when they are stopped, and that they outlive whoever reads them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.cli import command
from support.places import ROOT

MODULES = ("catalogues", "compare", "doctor", "reap", "recheck", "report", "sync")
SLEEPS = """
import sys, time
from pipeline.machine import entry
def main():
    print("begun", flush=True)
    sys.stdin.read()
    return 7
sys.exit(entry.run(main))
"""


@contextmanager
def sleeping(*before: str) -> Iterator["subprocess.Popen[str]"]:
    """A command that ends with 7 at the end of its stdin."""
    argv = [*before, sys.executable, "-c", SLEEPS]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as us:
        assert us.stdout is not None
        assert us.stdout.readline() == "begun\n"
        yield us


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_one_line(number: signal.Signals) -> None:
    with sleeping() as us:
        us.send_signal(number)
        _, said = us.communicate()
    assert (us.returncode, said) == (128 + number, f"Stopped by {number.name}.\n")


def test_an_ignored_signal_does_not() -> None:
    with sleeping("nohup") as us:
        us.send_signal(signal.SIGHUP)
        us.communicate()
    assert us.returncode == 7


@pytest.mark.parametrize("module", MODULES)
def test_each_ends_without_a_stack_where_nobody_reads_it(module: str) -> None:
    """As in `python -m pipeline.doctor | head -0`."""
    near, far = os.pipe()
    os.close(near)
    argv = [*command(sweep=False, module=f"pipeline.{module}"), "--help"]
    with os.fdopen(far, "wb") as nobody:
        done = subprocess.run(argv, cwd=ROOT, stdout=nobody, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
