"""What an engine leaves beside itself, with a stand-in that shares memory as the real ones do: gone, and told."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.backends import belongings, keeper, lease, teardown
from pipeline.backends.lease import Lease
from pipeline.backends.local import Local
from pipeline.core.errors import DeployFailed
from pipeline.core.files import RunDir
from pipeline.core.plan import Plan
from pipeline.core.schema_engine import Health
from pipeline.core.teardown import Teardown
from pipeline.core.values import load
from pipeline.machine import process, shared_memory
from support.places import FAKES

ENGINE = (sys.executable, str(FAKES / "leaving_engine.py"), "--port", "{port}")


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder for temporary files that is short enough for sockets, as /tmp is."""
    with tempfile.TemporaryDirectory(prefix="st-", dir="/tmp") as folder:
        yield Path(folder)


@dataclass
class Engine:
    """A trial's server, deployed as the trial does it."""

    owned: Lease
    memory: str
    worker: int
    log: Path

    @property
    def left(self) -> list[str]:
        """What is in /dev/shm of it, and in its folder."""
        shared = [self.memory] if (shared_memory.PLACE / self.memory).exists() else []
        folder = self.owned.scratch
        return shared + (sorted(path.name for path in folder.iterdir()) if folder and folder.exists() else [])

    @property
    def pid(self) -> int:
        assert self.owned.pid is not None
        return self.owned.pid

    def kill(self) -> None:
        """SIGKILL to all of it at once, as a cgroup is killed: nobody of it can tidy up."""
        everyone = process.labelled(self.owned.label)
        for one in everyone:
            one.suspend()
        for one in everyone:
            one.kill()
        assert process.wait_until(lambda: not process.labelled(self.owned.label), timeout_s=180)


Deploy = Callable[..., Engine]


def planned(folder: Path, **changes: Any) -> Plan:
    folder.mkdir(parents=True)
    plan = Plan(
        trial_id="sweep/0", sweep_id="sweep", number=0, backend="pipeline.backends.local.Local", argv=ENGINE,
        env={}, secret_env={}, host="127.0.0.1", run_dir=folder, model_path=folder, tokenizer_dir=folder,
        served_name="tiny", health=Health(path="/health", timeout_s=30, interval_s=0.05), settings_path=None,
        cache_reset="none", stop_grace_s=10, keeper=False, levels=(), warmup_requests=0,
    )  # fmt: skip
    return replace(plan, **changes)


@pytest.fixture
def deploy(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    """Deploy it, with changes of the plan; all is gone at the end."""
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    made: list[Engine] = []

    def start(**changes: Any) -> Engine:
        plan = planned(tmp_path / "sweep" / str(len(made)), **changes)
        owned = lease.make(plan)
        lease.update(owned)
        owned = Local().deploy(plan, owned).lease
        log = RunDir(plan.run_dir).server_log
        assert process.wait_until(lambda: "uses" in log.read_text() and "{" in log.read_text(), timeout_s=180)
        told = json.loads(next(line for line in log.read_text().splitlines() if line.startswith("{")))
        made.append(Engine(owned, told["memory"], told["worker"], log))
        return made[-1]

    yield start
    for one in made:
        teardown.run(one.owned, by="trial")
        with suppress(FileNotFoundError):
            (shared_memory.PLACE / one.memory).unlink()


def gone(engine: Engine) -> Teardown:
    """Torn down, with nothing left."""
    outcome = teardown.run(lease.current(engine.owned), by="trial")
    assert outcome.is_clean, outcome
    assert engine.left == []
    assert engine.owned.scratch is not None
    assert not engine.owned.scratch.exists()
    assert not lease.notes(engine.owned.label).exists()
    return outcome


def test_the_root_ends_its_children_itself(deploy: Deploy) -> None:
    engine = deploy()
    outcome = gone(engine)
    said = engine.log.read_text()
    assert "Application shutdown complete." in said
    assert "crashed" not in said
    assert outcome.seconds < engine.owned.stop_grace_s


def test_nothing_in_shared_memory_or_among_temporary_files_is_there_that_was_not_before(
    deploy: Deploy, base: Path
) -> None:
    before = sorted(base.iterdir())
    engine = deploy()
    assert sorted(base.iterdir()) != before
    outcome = gone(engine)
    assert sorted(base.iterdir()) == before
    (told,) = outcome.removed
    assert re.fullmatch(rf"{engine.owned.scratch} \(vllm_dist_\w+, 1 sockets\)", told)


@pytest.mark.parametrize("watched", [True, False], ids=["killed-after-a-look", "killed-while-we-tear-down"])
def test_what_a_killed_engine_leaves_is_removed_and_told(deploy: Deploy, *, watched: bool) -> None:
    engine = deploy(stop_grace_s=0.0 if not watched else 5.0)
    if watched:
        belongings.look(engine.owned)
        engine.kill()
        assert engine.memory in engine.left
    outcome = gone(engine)
    words = " ".join(outcome.removed)
    assert not watched or f"{shared_memory.PLACE / engine.memory} (1.0 MB)" in words
    assert not watched or "/sem.mp-" in words


def test_a_keeper_looks_while_the_engine_runs_and_removes_it_after_both(deploy: Deploy) -> None:
    """Our own death and the engine's at once."""
    engine = deploy()
    noted = lease.notes(engine.owned.label)
    with keeper.start(engine.owned) as guard:
        try:
            assert process.wait_until(lambda: engine.memory in noted.read_text(), timeout_s=180)
            engine.kill()
            assert guard.stdin is not None
            guard.stdin.close()
            assert guard.wait(timeout=60) == 0
        finally:
            guard.kill()
    assert engine.left == []
    assert not noted.exists()


def test_two_trials_side_by_side_keep_what_is_theirs(deploy: Deploy) -> None:
    first, second = deploy(), deploy()
    for one in (first, second):
        belongings.look(one.owned)
    first.kill()
    before = second.left
    gone(first)
    assert second.left == before
    assert len(process.labelled(second.owned.label)) >= 2
    outcome = gone(second)
    assert "crashed" not in second.log.read_text()
    assert first.memory not in " ".join((*outcome.removed, *outcome.unclaimed))


def test_what_nobody_noted_stays_and_is_named(deploy: Deploy) -> None:
    """Somebody's own, made meanwhile: not known to be the trial's."""
    engine = deploy()
    with foreign() as theirs:
        outcome = gone(engine)
        assert theirs.exists()
        assert f"{theirs} (0.0 MB)" in outcome.unclaimed


@contextmanager
def foreign() -> Iterator[Path]:
    """Shared memory of another program that has ended without removing it."""
    theirs = shared_memory.PLACE / f"psm_{secrets.token_hex(4)}"
    theirs.write_bytes(b"x" * 1000)
    try:
        yield theirs
    finally:
        theirs.unlink()


def test_the_server_goes_though_nothing_can_be_noted(deploy: Deploy) -> None:
    """As on a full disk, where the notes cannot be written either."""
    engine = deploy()
    notes = lease.notes(engine.owned.label)
    notes.unlink()
    notes.mkdir()
    outcome = teardown.run(lease.current(engine.owned), by="trial")
    notes.rmdir()
    assert not process.labelled(engine.owned.label)
    assert outcome.remaining == ()
    assert "Is a directory" in str(outcome.error)
    gone(engine)


@pytest.mark.parametrize("name", ["a\udcff", "a\n7 b"], ids=["not UTF-8", "two lines"])
def test_names_of_any_bytes_are_removed_and_told(deploy: Deploy, name: str) -> None:
    theirs, own = (shared_memory.PLACE / f"{secrets.token_hex(4)}{part}{name}" for part in ("theirs", "own"))
    say = f"print('uses', {json.dumps({'memory': 'none', 'worker': 1})!r}, sep='\\n', flush=True); "
    engine = deploy(argv=(sys.executable, "-c", f"file = open({str(own)!r}, 'wb'); {say}import time; time.sleep(600)"))
    theirs.write_bytes(b"x")
    try:
        outcome = gone(engine)
        assert theirs.exists()
        assert not own.exists()
    finally:
        theirs.unlink()
    assert any(own.name[:11] in told for told in outcome.removed)
    assert any(theirs.name[:14] in told for told in outcome.unclaimed)
    assert load(Lease, RunDir(engine.owned.run_dir).lease).released == outcome


def script(body: str) -> tuple[str, ...]:
    """An engine that does this, says that it is there, and waits."""
    say = f"print('uses', {json.dumps({'memory': 'none', 'worker': 1})!r}, sep='\\n', flush=True)"
    return (sys.executable, "-c", f"import os, time\n{body}\n{say}\ntime.sleep(600)")


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """The name of a folder in /dev/shm; gone at the end."""
    folder = shared_memory.PLACE / f"cache_{secrets.token_hex(4)}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_folder_in_shared_memory_is_looked_into(deploy: Deploy, shared_folder: Path) -> None:
    engine = deploy(argv=script(f"os.makedirs('{shared_folder}/a'); file = open('{shared_folder}/a/b', 'wb')"))
    outcome = gone(engine)
    assert not shared_folder.exists()
    assert {f"{shared_folder}/a/b (0.0 MB)", f"{shared_folder}/a (folder)", f"{shared_folder} (folder)"} <= {
        *outcome.removed
    }


def test_what_others_have_put_into_the_folder_stays_and_is_named(deploy: Deploy, shared_folder: Path) -> None:
    """As what the trial has put there and closed before anybody looked: nobody can tell them apart."""
    engine = deploy(argv=script(f"os.mkdir('{shared_folder}'); file = open('{shared_folder}/own', 'wb')"))
    (shared_folder / "theirs").write_bytes(b"x" * 200_000)
    outcome = gone(engine)
    assert [path.name for path in shared_folder.iterdir()] == ["theirs"]
    assert f"{shared_folder} (folder with 1 file, 0.2 MB)" in outcome.unclaimed


def test_an_empty_folder_of_nobody_known_is_named(deploy: Deploy, shared_folder: Path) -> None:
    engine = deploy(argv=script(f"os.mkdir('{shared_folder}')"))
    assert f"{shared_folder} (folder)" in gone(engine).unclaimed
    assert shared_folder.exists()


def test_a_folder_that_was_there_before_is_left_alone(deploy: Deploy, shared_folder: Path) -> None:
    shared_folder.mkdir()
    engine = deploy(argv=script(f"file = open('{shared_folder}/own', 'wb')"))
    assert shared_folder.name not in str(gone(engine))
    assert (shared_folder / "own").exists()


def test_what_comes_into_a_folder_later_is_noted(deploy: Deploy, shared_folder: Path, tmp_path: Path) -> None:
    """The clock of /dev/shm does not move then."""
    go = tmp_path / "go"
    later = f"while not os.path.exists('{go}'): time.sleep(0.01)\nfile = open('{shared_folder}/late', 'wb')"
    body = f"import threading\nos.mkdir('{shared_folder}')\ndef later():\n  global file\n  " + later.replace(
        "\n", "\n  "
    )
    engine = deploy(argv=script(f"{body}\nthreading.Thread(target=later, daemon=True).start()"))
    watch = belongings.Watch(engine.owned)
    for _ in range(belongings.TRIES + 2):
        watch.look()
    go.touch()
    assert process.wait_until((shared_folder / "late").exists, timeout_s=180)
    watch.look()
    assert "late" in lease.notes(engine.owned.label).read_text()
    gone(engine)
    assert not shared_folder.exists()


def test_what_was_there_before_stays_though_the_engine_writes_it(deploy: Deploy) -> None:
    with foreign() as theirs:
        attach = f"file = open({str(theirs)!r}, 'r+b', buffering=0); file.write(b'y'); "
        say = f"print('uses', {json.dumps({'memory': theirs.name, 'worker': 1})!r}, sep='\\n', flush=True); "
        engine = deploy(argv=(sys.executable, "-c", f"{attach}{say}import time; time.sleep(600)"))
        belongings.look(engine.owned)
        assert theirs.stat().st_ino in shared_memory.written_by([engine.pid])
        assert lease.notes(engine.owned.label).read_text() == ""
        outcome = teardown.run(lease.current(engine.owned), by="trial")
        assert outcome.is_clean
        assert theirs.name not in str(outcome)
        assert theirs.exists()


def test_what_somebody_else_still_uses_is_named_and_stays(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DYING_S", 0.2)
    engine = deploy()
    belongings.look(engine.owned)
    memory = shared_memory.PLACE / engine.memory
    hold = f"import time; file = open({str(memory)!r}, 'rb'); print('open', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"open\n"
            engine.kill()
            outcome = teardown.run(lease.current(engine.owned), by="trial")
            assert f"{memory} (1.0 MB): process {other.pid} still uses it" in outcome.remaining
            assert memory.exists()
        finally:
            other.kill()
    gone(engine)


def test_what_a_dying_process_still_has_is_waited_for(deploy: Deploy) -> None:
    """Killed before anybody looked, it has no label any more, and what it used for as long as it takes to die."""
    engine = deploy()
    belongings.look(engine.owned)
    memory = shared_memory.PLACE / engine.memory
    hold = f"import time; file = open({str(memory)!r}, 'rb'); print(flush=True); time.sleep(1)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        engine.kill()
        gone(engine)


def test_only_who_may_write_has_made_it(deploy: Deploy) -> None:
    engine = deploy()
    inode = (shared_memory.PLACE / engine.memory).stat().st_ino
    with (shared_memory.PLACE / engine.memory).open("rb"):
        assert inode not in shared_memory.written_by([os.getpid()])
        assert shared_memory.users({inode}).keys() == {inode}
    assert inode in shared_memory.written_by([engine.pid])


@pytest.mark.parametrize(
    ("scratch", "is_kept"),
    [("servetune-{label}", False), ("other", True), ("link", True)],
    ids=["the-trials-own", "another-name", "a-link"],
)
def test_a_lease_cannot_name_a_folder_that_is_not_the_trials(scratch: str, tmp_path: Path, *, is_kept: bool) -> None:
    owned = lease.make(planned(tmp_path / "sweep" / "0"))
    folder = tmp_path / scratch.format(label=owned.label[-8:])
    if scratch == "link":
        folder = tmp_path / f"servetune-{owned.label[-8:]}"
        folder.symlink_to(tmp_path / "sweep")
    else:
        folder.mkdir()
    (folder / "file").touch()
    belongings.remove(replace(owned, scratch=folder))
    assert (folder / "file").exists() is is_kept


def test_the_folder_of_the_user_is_taken_where_the_runtime_names_one(deploy: Deploy, base: Path) -> None:
    engine = deploy(env={"TMPDIR": str(base)})
    assert engine.owned.scratch is None
    assert [path.name for path in base.iterdir() if path.name.startswith("vllm_dist_")]
    assert psutil.Process(engine.pid).environ()["TMPDIR"] == str(base)


def test_sockets_fit_into_the_folder_though_the_users_own_is_deep(
    deploy: Deploy, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = base / ("d" * 80)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    engine = deploy()
    assert engine.owned.scratch is not None
    assert len(f"{engine.owned.scratch}/{'u' * 36}") < 108
    gone(engine)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    plan = planned(tmp_path / "sweep" / "0")
    owned = lease.make(plan)
    lease.update(owned)
    with pytest.raises(DeployFailed, match="Cannot make the trial's temporary folder /proc/none/servetune-") as told:
        Local().deploy(plan, owned)
    assert "TMPDIR" in told.value.hint
    assert teardown.run(lease.current(owned), by="trial").is_clean


def test_an_end_without_order_is_a_crash_to_the_stand_in(deploy: Deploy) -> None:
    """As it is to the real ones: TERM to everybody at once."""
    engine = deploy()
    os.kill(engine.worker, signal.SIGTERM)
    time.sleep(0.1)
    os.kill(engine.pid, signal.SIGTERM)
    assert process.wait_until(lambda: "crashed with exit code -15" in engine.log.read_text(), timeout_s=180)
    gone(engine)
