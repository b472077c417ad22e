"""Sweeps left alone for a night: what whoever started them had ignored stays ignored, and TERM still ends them."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.backends.lease import state_dir
from pipeline.machine import process
from support.cli import command, stub_overrides
from support.sweeping import Running, running

NOHUP = ("nohup",)
AS_A_JOB_OF_A_SCRIPT = ("sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh")
ONE_BY_ONE: tuple[str, ...] = ()
PARALLEL = ("hydra/launcher=parallel", "hydra.launcher.n_jobs=2")
SUBMITIT = ("hydra/launcher=submitit_local",)
QUICK = ("traffic.concurrencies=[1]", "runtime.stop_grace_s=0.5", "runtime.health.interval_s=0.02")
SLOW, ENDLESS = {"STUB_BENCH": "sleep:2"}, {"STUB_BENCH": "hang"}


def sweep(folder: Path, gguf: Path, *overrides: str) -> list[str]:
    return [*command(sweep=True), *stub_overrides(folder / "out", gguf), *QUICK, "parallel=2,4", *overrides]


def tell(us: Running, number: signal.Signals) -> None:
    """As a script tells the one process and a terminal the whole group."""
    us.child.send_signal(number)
    os.killpg(us.child.pid, number)


def assert_done(us: Running) -> None:
    result = us.end()
    assert result.code == 0, result.err
    assert [record.status for record in result.records] == ["ok", "ok"]
    assert (us.folder / "ranking.csv").exists()


def assert_torn_down(us: Running, by: signal.Signals) -> None:
    result = us.end()
    assert result.code == 128 + by
    assert {record.teardown.by for record in result.records if record.teardown} == {"trial"}
    assert process.wait_until(lambda: not us.processes(), timeout_s=180)
    assert [*(state_dir() / "leases").glob("*.json")] == []


@pytest.mark.parametrize(
    ("started_by", "launcher", "numbers"),
    [
        pytest.param(NOHUP, ONE_BY_ONE, [signal.SIGHUP], id="nohup"),
        pytest.param(AS_A_JOB_OF_A_SCRIPT, PARALLEL, [signal.SIGINT, signal.SIGHUP], id="script-parallel"),
        pytest.param(AS_A_JOB_OF_A_SCRIPT, SUBMITIT, [signal.SIGINT, signal.SIGHUP], id="script-submitit"),
    ],
)
def test_an_ignored_signal_costs_nothing(
    tmp_path: Path,
    tiny_gguf: Path,
    started_by: tuple[str, ...],
    launcher: tuple[str, ...],
    numbers: list[signal.Signals],
) -> None:
    with running([*started_by, *sweep(tmp_path, tiny_gguf, *launcher)], tmp_path, SLOW) as us:
        us.await_levels(0)
        for number in numbers:
            tell(us, number)
        assert_done(us)


@pytest.mark.parametrize("launcher", [PARALLEL, SUBMITIT], ids=["parallel", "submitit"])
def test_term_tears_down_what_ignores_the_rest(tmp_path: Path, tiny_gguf: Path, launcher: tuple[str, ...]) -> None:
    with running([*AS_A_JOB_OF_A_SCRIPT, *sweep(tmp_path, tiny_gguf, *launcher)], tmp_path, ENDLESS) as us:
        us.await_levels(0)
        us.child.terminate()
        assert_torn_down(us, signal.SIGTERM)


def test_a_signal_that_is_not_ignored_is_heard_beside_one_that_is(tmp_path: Path, tiny_gguf: Path) -> None:
    with running([*NOHUP, *sweep(tmp_path, tiny_gguf, *PARALLEL)], tmp_path, ENDLESS) as us:
        us.await_levels(0)
        tell(us, signal.SIGHUP)
        tell(us, signal.SIGINT)
        assert_torn_down(us, signal.SIGINT)


class Terminal:
    """What a sweep is shown on, until the connection closes."""

    def __init__(self) -> None:
        self.near, far = os.openpty()
        self.path = os.ttyname(far)
        os.close(far)
        os.set_blocking(self.near, False)
        self.is_open = True

    def read(self) -> None:
        """What nobody reads would hold up whoever writes."""
        with suppress(OSError):  # nothing to read, or nobody has it open yet
            while os.read(self.near, 65536):
                pass

    def close(self) -> None:
        """The kernel tells the session HUP, and whoever writes EIO."""
        if self.is_open:
            self.is_open = False
            os.close(self.near)


@contextmanager
def on_a_terminal(argv: list[str], home: Path, env: dict[str, str], *, before: str = ":") -> Iterator[Running]:
    """A sweep whose terminal is closed in the middle of its first trial; `before`: said by its shell."""
    terminal = Terminal()
    shell = ["sh", "-c", f'terminal=$1; shift; {before}; exec "$@" <"$terminal" >"$terminal" 2>&1', "sh"]
    try:
        with running([*shell, terminal.path, *argv], home, env) as us:

            def is_measuring() -> bool:
                terminal.read()
                return bool([*us.folder.glob("0/bench/*/*/console.log")])

            us.await_that(is_measuring)
            terminal.close()
            yield us
    finally:
        terminal.close()


def test_a_sweep_that_ignores_hup_outlives_its_terminal(tmp_path: Path, tiny_gguf: Path) -> None:
    with on_a_terminal(sweep(tmp_path, tiny_gguf), tmp_path, SLOW, before="trap '' HUP") as us:
        assert_done(us)


def test_a_sweep_whose_terminal_goes_away_is_torn_down(tmp_path: Path, tiny_gguf: Path) -> None:
    with on_a_terminal(sweep(tmp_path, tiny_gguf, *PARALLEL), tmp_path, ENDLESS) as us:
        assert_torn_down(us, signal.SIGHUP)
