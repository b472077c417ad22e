"""W&B that is away: waited for once, then written offline, by the real wandb against servers of the tests' own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.silent import Silent, silence
from parts.wandb_runs import run_of
from parts.wandb_server import KEY, serving
from pipeline import sync
from pipeline.core.errors import TrackerFailed
from pipeline.core.files import SweepDir, save
from pipeline.core.schema import Tracker
from pipeline.machine import owner, process
from pipeline.report.publication import result_of
from pipeline.trackers import wandb, wandb_away
from pipeline.trackers.wandb import WandB
from support.records import make_record

CONFIG = Tracker(name="wandb", target="pipeline.trackers.wandb.WandB", project="servetune", mode="auto", timeout_s=3)
LONG = replace(CONFIG, timeout_s=1200)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    with silence() as made:
        monkeypatch.setenv("WANDB_BASE_URL", made.url)
        yield made


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepDir:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv(owner.OWNER, "this command")
    for name in ("WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    return SweepDir(tmp_path / "sweep")


@pytest.fixture
def tracker() -> Iterator[WandB]:
    made = WandB()
    yield made
    made.close()


def publish(number: int, sweep: SweepDir, tracker: WandB, config: Tracker = CONFIG) -> Path | None:
    run_dir = sweep.trial(number)
    run_dir.path.mkdir(parents=True, exist_ok=True)
    record = make_record(number=number)
    save(run_dir.record, record)
    where = tracker.publish(record, config, run_dir)
    return Path(where) if where else None


def offline(sweep: SweepDir) -> list[str]:
    return sorted(path.parent.name.rpartition("-")[2] for path in sync.offline_runs(sweep.path))


def timed_out(folder: Path, tracker: WandB, silent: Silent) -> SweepDir:
    """A sweep whose first record W&B was asked to take, in vain."""
    for timeout_s in (3, 30, 120):  # longer where a busy machine has not come to asking
        sweep = SweepDir(folder / f"sweep-{timeout_s}")
        with pytest.raises(TrackerFailed, match="did not accept the record in time") as caught:
            publish(0, sweep, tracker, replace(CONFIG, timeout_s=timeout_s))
        assert str(caught.value).endswith(
            f"From now on this sweep is written offline. To upload it later: servetune sync {sweep.path}"
        )
        if silent.asked():
            return sweep
    pytest.fail("nobody was asked")


@pytest.mark.usefixtures("sweep")
def test_after_the_first_time_out_the_rest_is_written_offline_at_once(
    tmp_path: Path, tracker: WandB, silent: Silent
) -> None:
    sweep = timed_out(tmp_path, tracker, silent)
    asked = silent.asked()
    for number in (1, 2):
        where = publish(number, sweep, tracker)
        assert where is not None
        assert run_of(where).run_id == f"{sweep.tracker_key.read_text()}-{number}"
    (told,) = tracker.publish_sweep(result_of([make_record()]), CONFIG, sweep)
    assert told.startswith("W&B: offline. To upload: ")
    assert silent.asked() == asked  # nobody was asked again
    assert {"0", "1", "2"} < {*offline(sweep)}
    assert len(offline(sweep)) == 4  # and that of the sweep


def test_what_was_written_offline_and_what_began_online_is_uploaded_later(
    sweep: SweepDir, tracker: WandB, silent: Silent, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        publish(0, sweep, tracker, LONG)
        publish(1, sweep, tracker, LONG)
    tracker.close()
    key = sweep.tracker_key.read_text()
    assert offline(sweep) == []
    wandb_away.begin(sweep, f"{key}-1")  # as if we had been killed before its end
    assert offline(sweep) == ["1"]
    monkeypatch.setenv("WANDB_BASE_URL", silent.url)
    with pytest.raises(TrackerFailed):
        publish(2, sweep, tracker)
    assert offline(sweep) == ["1", "2"]
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert sync.main([str(sweep.path)]) == 0
        assert {*server.runs} == {f"{key}-1", f"{key}-2"}
        assert f"Uploaded 2 of 2 offline runs to {server.url}." in capfd.readouterr().out
        assert sync.main([str(sweep.path)]) == 0
        assert "Nothing to upload" in capfd.readouterr().out


def test_who_waits_when_another_process_has_given_up_gives_up_too(
    sweep: SweepDir, tracker: WandB, silent: Silent
) -> None:
    def give_up() -> None:
        assert process.wait_until(lambda: bool(silent.held), timeout_s=300)
        wandb_away.mark(sweep)

    other = threading.Thread(target=give_up)
    other.start()
    where = publish(0, sweep, tracker, LONG)  # would wait for ten minutes, and says nothing: the other one has
    other.join()
    assert where is not None
    assert offline(sweep) == ["0"]


def test_a_key_that_is_refused_loses_no_run(sweep: SweepDir, tracker: WandB, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setattr(server, "answer", lambda _body: ({"errors": [{"message": "no"}]}, 401))
        with pytest.raises(TrackerFailed, match="written offline"):
            publish(0, sweep, tracker, LONG)
        assert publish(1, sweep, tracker, LONG) is not None
    assert offline(sweep) == ["0", "1"]


def test_a_slow_server_is_given_up_when_it_has_cost_enough(
    sweep: SweepDir, tracker: WandB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb, "USUAL_S", 0.0)
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        publish(0, sweep, tracker, LONG)
        tracker.lost_s = LONG.timeout_s * wandb.ONLINE_SHARE
        monkeypatch.setattr(wandb, "USUAL_S", 100.0)
        with pytest.raises(TrackerFailed, match="W&B is slow, 600 s were lost to it"):
            publish(1, sweep, tracker, LONG)
        assert len(server.runs) == 2
        publish(2, sweep, tracker, LONG)
        assert len(server.runs) == 2
    assert offline(sweep) == ["2"]


def test_one_process_of_a_command_tells_and_the_next_command_asks_again(
    sweep: SweepDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not wandb_away.is_marked(sweep)
    assert [wandb_away.mark(sweep) for _ in range(3)] == [True, False, False]
    assert wandb_away.is_marked(sweep)
    monkeypatch.setenv(owner.OWNER, "the next command")
    assert not wandb_away.is_marked(sweep)
    assert [wandb_away.mark(sweep) for _ in range(2)] == [True, False]
