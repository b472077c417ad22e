"""The files of who is at work: what they tell of a trial, and that they cost it nothing."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import make_lease, make_plan
from pipeline import ps, stop
from pipeline.backends import lease
from pipeline.core.files import RunDir
from pipeline.core.plan import Slots
from pipeline.core.schema_backends import Cluster, Container, Kubernetes
from pipeline.core.values import now, to_json
from pipeline.machine import identity, process
from pipeline.machine.identity import Identity
from pipeline.machine.progress import Silent
from pipeline.trial import at_work, overview
from pipeline.trial.story import Place, Story
from support.records import make_config


@pytest.fixture
def story(tmp_path: Path) -> Story:
    place = Place(sweep_id="s", number=3, overrides=("a=1", "b=2"), run_dir=RunDir(tmp_path / "out" / "3"))
    return Story(place, make_config(), Silent())


@pytest.fixture
def sleeper() -> Iterator[Identity]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield identity.of(child.pid)
        child.kill()


def the_only() -> at_work.Running:
    (found,) = at_work.trials()
    return found


def put(name: str, item: object) -> Path:
    path = at_work.folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(item))
    return path


def test_a_trial_is_shown_with_its_step_while_it_runs(story: Story, tmp_path: Path) -> None:
    with at_work.noted(story):
        first = the_only()
        story.progress.step("slots")
        story.plan = make_plan(tmp_path, slots=Slots(gpu_ids=("2", "3"), cores=(4, 5)))
        story.progress.step("bench")
        story.progress.step("bench", "D(48,16) x1")
        then = the_only()
    assert (first.owner, first.number, first.overrides, first.run_dir) == (
        identity.of(), 3, ("a=1", "b=2"), tmp_path / "out" / "3",
    )  # fmt: skip
    assert (then.step, then.detail, then.gpus, then.cores) == ("bench", "D(48,16) x1", ("2", "3"), (4, 5))
    assert then.step_since > first.step_since
    assert at_work.trials() == ()
    assert [*at_work.folder().iterdir()] == []


def test_how_far_a_step_is_is_not_written_all_the_time_but_every_level_is(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_work, "AGAIN_S", 3600.0)
    with at_work.noted(story):
        for detail in ("D(48,16) x1", "D(48,16) x1 10 of 99", "D(48,16) x4 1 of 99", "D(48,16) x4 2 of 99"):
            story.progress.step("bench", detail)
        assert the_only().detail == "D(48,16) x4 1 of 99"
        monkeypatch.setattr(at_work, "AGAIN_S", 0.0)
        since = the_only().step_since
        story.progress.step("bench", "D(48,16) x4 3 of 99")
        assert (the_only().detail, the_only().step_since) == ("D(48,16) x4 3 of 99", since)


def test_what_cannot_be_written_costs_nothing(story: Story) -> None:
    lease.state_dir().write_text("no folder")
    at_work.begin(story.place.run_dir.path, is_sweep=True, is_search=False, swept=())
    with at_work.noted(story):
        story.progress.step("bench")
    at_work.end()
    assert lease.state_dir().read_text() == "no folder"


def test_the_file_of_a_process_that_is_gone_is_removed(story: Story) -> None:
    with at_work.noted(story):
        running = the_only()
    dead = replace(running, owner=replace(running.owner, start_ticks=1))
    path = put("dead.trial", dead)
    path.with_suffix(".stop").touch()
    put("broken.trial", [1])
    assert at_work.trials() == ()
    assert [one.name for one in at_work.folder().iterdir()] == ["broken.trial"]


def test_a_trial_on_another_machine_is_shown_while_its_sweep_runs_here(
    story: Story, sleeper: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    with at_work.noted(story):
        running = the_only()
    sweep = story.place.run_dir.path.parent
    there = replace(running, owner=replace(running.owner, host="node7"), command=sleeper)
    put("there.trial", there)
    assert at_work.trials() == ()
    put("here.command", _command(sleeper, sweep))
    assert at_work.trials() == (there,)
    assert ps.main([]) == 0
    assert f"process {running.owner.pid}, since " in (said := capsys.readouterr().out)
    assert "on node7" in said
    sweep.mkdir()
    assert stop.main([str(sweep), "3"]) == 3
    assert f"NOT STOPPED: trial 3 of {sweep} runs on node7" in capsys.readouterr().out


def _command(who: Identity, folder: Path) -> at_work.Command:
    return at_work.Command(owner=who, folder=folder, is_sweep=True, is_search=True, swept=("a",), since=now())


def test_only_what_trials_differ_in_is_shown_to_a_person(
    story: Story, sleeper: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    with at_work.noted(story):
        running = the_only()
    put("here.command", _command(sleeper, story.place.run_dir.path.parent))
    put("here.trial", replace(running, owner=sleeper, command=sleeper, gpus=("0", "1"), phase="confirm"))
    ps.main([])
    said = capsys.readouterr().out
    assert "  trial 3 (confirm): a=1\n" in said
    assert f"process {sleeper.pid}, since " in said
    assert "local, GPUs 0,1\n" in said


def test_a_trial_that_only_its_lease_tells_of_is_shown_and_ended(
    sleeper: Identity, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "KEEPER_S", 0.1)
    (tmp_path / "5").mkdir()
    lease.update(replace(make_lease(tmp_path / "5"), owner=sleeper))
    (found,) = overview.look().sweeps
    assert (found.folder, [(one.number, one.owner) for one in found.trials]) == (tmp_path, [(None, sleeper)])
    code = stop.main([])
    assert not identity.is_alive(sleeper)
    assert f"{tmp_path}: told to stop (process {sleeper.pid})" in (said := capsys.readouterr().out)
    assert (code, "what a killed trial had left is removed" in said) == (0, True), said
    assert process.wait_until(lambda: not [*lease.all_registered()], timeout_s=180)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "local"),
        ({"name": "docker", "container": Container()}, "docker"),
        ({"name": "docker", "container": Container(socket="ssh://gpu7")}, "docker (ssh://gpu7)"),
        (
            {"name": "ome", "kubernetes": Kubernetes(cluster=Cluster(context="prod", namespace="llm"))},
            "ome (prod/llm)",
        ),
        ({"name": "ome", "kubernetes": Kubernetes()}, "ome (default context/its namespace)"),
        ({"name": "endpoint", "url": "https://llm.example/x"}, "endpoint (https://llm.example/x)"),
    ],
    ids=["local", "docker", "remote-docker", "ome", "ome-by-default", "endpoint"],
)
def test_the_backend_is_told_with_its_place(
    changes: dict[str, Any], words: str, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    story.config = replace(story.config, backend=replace(story.config.backend, **changes))
    with at_work.noted(story):
        assert the_only().backend == words
