"""The clock of a trial: what counts against its limit, and what a step may take of it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from fakes import FakeProgress
from pipeline.core.errors import StepTimedOut
from pipeline.core.files import RunDir
from pipeline.trial.story import Place, Story
from support.records import CONFIG, make_config

LIMIT_S, LONG_S = 1000.0, 5000.0


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A trial that began long ago."""
    config = make_config(timeouts={**CONFIG["timeouts"], "trial_s": LIMIT_S})
    made = Story(Place(sweep_id="s", number=0, overrides=(), run_dir=RunDir(tmp_path)), config, FakeProgress())
    made.began_s -= LONG_S
    return made


def never_ending(story: Story, step: str) -> None:
    with story.step(step, timeout_s=60):
        while True:
            pass


def test_a_step_that_begins_after_the_end_of_the_trials_time_is_broken_off(story: Story) -> None:
    with pytest.raises(StepTimedOut, match="The trial did not end within 1000 s"):
        never_ending(story, "deploy")
    assert story.failure is not None
    assert story.failure.step == "deploy"
    assert "timeouts.trial_s" in story.failure.hint


@pytest.mark.parametrize("step", ["model", "slots"])
def test_downloads_and_waiting_for_gpus_do_not_count(story: Story, step: str) -> None:
    with story.step(step, timeout_s=60):
        pass  # also begun when time is over
    story.timings.add(step, LONG_S, failed=False)
    assert LIMIT_S / 2 < story.left_s <= LIMIT_S
    story.insist_time()
    with story.step("deploy", timeout_s=60):
        pass


def test_what_removes_the_server_has_its_own_time(story: Story) -> None:
    for step, is_held in (("teardown", True), ("record", True), ("tracker", False)):
        with story.step(step, timeout_s=60, is_held=is_held):
            pass
    assert story.failure is None
    with pytest.raises(StepTimedOut):
        story.insist_time()


def test_a_step_that_does_nothing_is_not_shown(story: Story) -> None:
    shown: list[str] = []
    story.progress = SimpleNamespace(step=shown.append)
    for name, is_shown in (("record", True), ("tracker", False)):
        with story.step(name, is_held=True, is_shown=is_shown):
            pass
    assert shown == ["record"]
    assert [step.step for step in story.timings.done][-2:] == ["record", "tracker"]
