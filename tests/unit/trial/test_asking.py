"""An engine's settings and version: asked before measuring and again after it, and never lost without a word."""

from pathlib import Path

import pytest

from fakes import Answer, FakeEngine, FakeProgress, make_deployment, make_plan
from pipeline.core.files import RunDir
from pipeline.core.schema_engine import Tells
from pipeline.trial import asking
from pipeline.trial.story import Place, Story, to_record
from support.cli import pipeline
from support.records import CONFIG, make_config

SETTINGS: Answer = (200, {"n_ctx": 4096})
REFUSED: Answer = (503, {})
VERSION: Answer = (200, {"version": "1.2+cpu"})


def story_of(folder: Path, *, version: str | None = None) -> Story:
    runtime = {**CONFIG["runtime"], "version": version}
    place = Place(sweep_id="sweep", number=7, overrides=(), run_dir=RunDir(folder))
    made = Story(place, make_config(runtime=runtime), FakeProgress())
    made.plan = make_plan(folder, settings_path="/props", tells=Tells(version_path="/version"))
    return made


def ask(story: Story, folder: Path, settings: list[Answer], version: list[Answer]) -> list[str]:
    """Before and after measuring; what was asked."""
    answers: dict[str, Answer | list[Answer]] = {"GET /props": settings, "GET /version": version}
    with FakeEngine(**answers) as server:
        asking.before_measuring(story, make_deployment(folder, server.url))
        asking.after_measuring(story, make_deployment(folder, server.url))
        return server.asked


def test_what_was_told_at_once_is_not_asked_again(tmp_path: Path) -> None:
    story = story_of(tmp_path)
    assert ask(story, tmp_path, [SETTINGS], [VERSION]) == ["GET /props", "GET /version"]
    record = to_record(story)
    assert (record.settings, record.settings_unknown, record.engine_version) == ({"n_ctx": 4096}, None, "1.2+cpu")
    assert [step.step for step in record.steps] == ["settings"]


@pytest.mark.parametrize(
    ("settings", "version"),
    [([REFUSED, SETTINGS], [VERSION]), ([SETTINGS], [REFUSED, VERSION]), ([REFUSED, SETTINGS], [REFUSED, VERSION])],
    ids=["settings", "version", "both"],
)
def test_what_was_not_told_is_asked_again_after_measuring(
    tmp_path: Path, settings: list[Answer], version: list[Answer]
) -> None:
    story = story_of(tmp_path)
    ask(story, tmp_path, settings, version)
    record = to_record(story)
    assert (record.settings, record.settings_unknown, record.engine_version) == ({"n_ctx": 4096}, None, "1.2+cpu")
    assert not [note for note in record.notes if "unknown" in note]


def test_what_is_never_told_is_said_in_the_record(tmp_path: Path) -> None:
    story = story_of(tmp_path)
    ask(story, tmp_path, [REFUSED], [REFUSED])
    record = to_record(story)
    assert (record.settings, record.settings_unknown, record.engine_version) == (None, "/props answered HTTP 503", None)
    assert record.notes == (
        "settings unknown: /props answered HTTP 503. Whether the engine set knobs to other values cannot be told",
    )


@pytest.mark.parametrize(
    ("planned", "is_told"),
    [("1.2", False), ("1.2+cu129", False), ("1.3", True), (None, False)],
    ids=["same", "another-build", "another-version", "not-planned"],
)
def test_another_version_than_planned_is_told(tmp_path: Path, *, planned: str | None, is_told: bool) -> None:
    story = story_of(tmp_path, version=planned)
    ask(story, tmp_path, [SETTINGS], [VERSION])
    told = [note for note in to_record(story).notes if note.startswith("the engine is version 1.2+cpu")]
    assert bool(told) == is_told


def test_an_engine_that_nobody_asks_is_no_loss(tmp_path: Path) -> None:
    story = story_of(tmp_path)
    story.plan = make_plan(tmp_path, settings_path=None)
    assert ask(story, tmp_path, [SETTINGS], [VERSION]) == []
    record = to_record(story)
    assert (record.settings_unknown, record.notes) == (None, ())


def test_a_trial_whose_settings_are_unknown_has_a_result_and_a_flag(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline(
        "runtime.settings_path=/nowhere", "parallel=2,4", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True
    )
    assert result.code == 0, result.err
    assert [record.settings_unknown for record in result.records] == ["/nowhere answered HTTP 404"] * 2
    assert "settings unknown: the engine did not say what it made of the knobs" in result.out
    assert "Trials 0, 1: settings unknown: /nowhere answered HTTP 404" in result.out
    assert "settings unknown" in (tmp_path / "out" / "report.html").read_text()
