"""The reaper: removes what has lost its owner, says what it cannot remove, and touches nothing else."""

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.backends import lease, teardown
from pipeline.core.files import RunDir, save
from pipeline.core.values import now
from pipeline.machine import identity, process
from support.cli import command, pipeline
from support.places import ROOT
from support.world import Launch, Trial, registered

GARBAGE = {
    "empty": b"",
    "binary": b"\xff\x00\xfe",
    "cut": b'{"label": "x"',
    "of-another-version": b'{"label": "x", "new": 1}',
}


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that carries no label and listens on a port, which it prints."""
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        yield child
        child.kill()


@pytest.fixture
def orphaned(launch: Launch) -> Iterator[Trial]:
    """A trial without a keeper, killed with its whole group: its server lives on."""
    trial = launch("backend.keeper=false", faults={"bench": "pause"}, env={"STUB_BENCH": "hang"})
    trial.await_step("bench")
    trial.strike(signal.SIGKILL, group=True)
    trial.wait()
    owned = trial.lease
    assert owned is not None
    assert trial.home.left(owned)
    yield trial
    teardown.run(owned, by="reaper")


def reap(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [*command(sweep=False, module="pipeline.reap"), *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


def made_lease(
    folder: Path, owner: identity.Identity, *, port: int | None = None, pid: int | None = None
) -> lease.Lease:
    folder.mkdir()
    owned = lease.Lease(
        label="by-hand-1234",
        backend="pipeline.backends.local.Local",
        owner=owner,
        run_dir=folder,
        created_at=now(),
        stop_grace_s=0.5,
        host="127.0.0.1",
        port=port,
        pid=pid,
    )
    lease.update(owned)
    return owned


def ended() -> identity.Identity:
    """A process that is no more."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        return identity.of(child.pid)


def test_lists_removes_and_finds_nothing_more(orphaned: Trial) -> None:
    listed = reap("--list")
    assert f"orphan  pid {orphaned.lease and orphaned.lease.pid}" in listed.stdout
    first = reap()
    assert (first.returncode, "1 leases without an owner, 1 removed" in first.stdout) == (0, True)
    assert orphaned.remains() == []
    assert orphaned.lease is not None
    assert orphaned.lease.released is not None
    assert orphaned.lease.released.by == "reaper"
    assert "0 leases without an owner" in reap().stdout


def test_a_new_trial_removes_orphans_first_and_says_so(orphaned: Trial, tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline("traffic.concurrencies=[1]", folder=tmp_path / "next", gguf=tiny_gguf)
    assert result.code == 0
    assert f"A trial that was killed had left its server: removed ({orphaned.run_dir.path})" in result.err
    assert orphaned.remains() == []


def test_leaves_a_lease_whose_owner_is_alive(tmp_path: Path) -> None:
    made_lease(tmp_path / "run", identity.of())
    assert "in use" in reap("--list").stdout
    assert reap().returncode == 0
    assert len(registered()) == 1


@pytest.mark.parametrize("where", [{"host": "x"}, {"pid_namespace": "x"}], ids=["host", "container"])
def test_leaves_a_lease_of_another(where: dict[str, Any], tmp_path: Path) -> None:
    made_lease(tmp_path / "run", replace(ended(), **where))
    assert reap().returncode == 0
    assert len(registered()) == 1


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "before"}], ids=["another-process", "another-boot"])
def test_takes_a_pid_that_was_given_again_for_another(change: dict[str, Any], tmp_path: Path) -> None:
    made_lease(tmp_path / "run", replace(identity.of(), **change))
    assert "1 removed" in reap().stdout
    assert registered() == []


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_lease_that_cannot_be_read_does_not_stop_the_others(garbage: bytes, tmp_path: Path) -> None:
    made_lease(tmp_path / "run", ended())
    bad = lease.state_dir() / "leases" / "a-first.json"
    bad.write_bytes(garbage)
    result = reap()
    assert (result.returncode, "1 removed" in result.stdout) == (0, True)
    assert f"cannot be read: {bad}; remove it by hand if nothing of it runs" in result.stderr
    assert registered() == [bad]


def test_names_but_never_kills_who_holds_the_port(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert sleeper.stdout is not None
    port = int(sleeper.stdout.readline())
    owned = made_lease(tmp_path / "run", ended(), port=port, pid=sleeper.pid)
    result = reap()
    assert result.returncode == 3
    assert f"NOT REMOVED: something still listens on port {port}" in result.stdout
    assert sleeper.poll() is None
    assert lease.current(owned).released is not None
    assert len(registered()) == 1
    socket.create_connection(("127.0.0.1", port)).close()
    sleeper.wait()
    assert reap().returncode == 0


def test_a_port_taken_since_a_restart_of_the_machine_is_not_ours(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert sleeper.stdout is not None
    port = int(sleeper.stdout.readline())
    made_lease(tmp_path / "run", replace(identity.of(), boot_id="before"), port=port, pid=sleeper.pid)
    assert reap().returncode == 0
    assert registered() == []
    socket.create_connection(("127.0.0.1", port)).close()
    sleeper.wait()


def test_a_deleted_run_directory_is_no_obstacle(orphaned: Trial) -> None:
    saved = orphaned.lease
    assert saved is not None
    folder = orphaned.run_dir.path

    def is_deleted() -> bool:  # the orphans may still write while it is being deleted
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    assert process.wait_until(is_deleted, timeout_s=180)
    assert reap().returncode == 0
    assert orphaned.remains() == []
    assert orphaned.home.left(saved) == []


def test_a_lease_of_a_backend_that_is_not_installed_is_named(tmp_path: Path) -> None:
    owned = made_lease(tmp_path / "run", ended())
    save(lease.registered(owned.label), replace(owned, backend="pipeline.backends.none.Nowhere"))
    result = reap()
    assert result.returncode == 3
    assert "NOT REMOVED: ModuleNotFoundError" in result.stdout
    assert RunDir(owned.run_dir).lease.exists()
