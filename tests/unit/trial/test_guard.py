"""The quality guard against servers that answer in every way, and whom it asks in which trial."""

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeProgress, make_deployment, make_plan
from fakes.answering import answering
from fakes.answers import Mood
from pipeline.core.errors import Interrupted
from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.quality import judge
from pipeline.core.racing import Incumbent
from pipeline.core.record import Phase
from pipeline.core.schema_quality import Quality, Reads
from pipeline.engines import questions
from pipeline.engines.answering import Engine
from pipeline.trial import guard, twin
from pipeline.trial.story import Place, Story, to_record
from support.records import CONFIG, make_config, make_levels, make_record

ENOUGH_S = 60.0  # nobody waits for it
GUARD = {"name": "guard", "kind": "guard"}
RULES = Quality(name="guard", kind="guard")
KNOBS = CONFIG["runtime"]["knobs"]


def of(mood: Mood, reads: Reads = "none", users: int = 4, seconds: float = ENOUGH_S) -> Any:
    with answering(mood) as server:
        return guard.ask_all(Engine(url=server.url, model="tiny", reads=reads), users, seconds)


@pytest.mark.parametrize(
    ("mood", "word", "may_win"),
    [
        ("well", "same", True),
        ("undecided", "differs", True),
        ("slightly", "differs", True),
        ("garbage", "differs", False),
        ("empty", "broken", False),
        ("stuck", "broken", False),
        ("no text", "broken", False),
        ("unsure", "broken", False),
        ("no logprobs", "same", True),
        ("errors", "unknown", True),
        ("odd", "unknown", True),
        ("bare", "unknown", True),
    ],
)
def test_answers_are_judged(mood: Mood, word: str, *, may_win: bool) -> None:
    found = judge(of(mood), of("well"), RULES)
    assert (found.word, found.may_win) == (word, may_win), str(found)


def test_an_answer_of_another_shape_is_told() -> None:
    assert "an answer of another shape (AttributeError: " in judge(of("bare"), of("well"), RULES).reason


def test_half_a_character_costs_no_record(tmp_path: Path) -> None:
    story = story_of(tmp_path)
    story.asked = of("half")
    record = to_record(story)
    save(tmp_path / "record.json", record)
    assert record.asked is not None
    assert record.asked.answers[0].text == "? and more"


@pytest.mark.parametrize("mood", ["stuck", "empty", "no text", "unsure"])
def test_a_baseline_that_looks_broken_bars_nobody(mood: Mood) -> None:
    found = judge(of("well"), of(mood), RULES)
    assert (found.word, found.may_win) == ("unknown", True)
    assert "the baseline itself looks broken" in found.reason


def test_a_baseline_that_varies_is_held_against_itself() -> None:
    found = judge(of("noisy"), of("noisy"), RULES)
    assert found.word == "same"
    assert found.floor is not None
    assert found.floor.share < 1


@pytest.mark.parametrize("reads", ["vllm", "sglang"])
def test_given_texts_are_read_where_the_engine_tells_what_it_expects(reads: Reads) -> None:
    base = of("well", reads)
    assert {one.passage for one in base.readings} == {*questions.load().passages}
    found = judge(of("slightly", reads), base, RULES)
    assert found.word == "differs"
    assert found.agreement is not None
    assert found.agreement.way == "teacher-forced"
    assert 0.8 < found.agreement.share < 0.95


def test_everything_is_asked_alone_then_at_the_busiest_then_alone_again() -> None:
    with answering() as server:
        asked = guard.ask_all(Engine(url=server.url, model="tiny"), 40, ENOUGH_S)
        bodies = server.bodies
    assert [(turn.how, turn.users, len(turn.answers)) for turn in asked.turns] == [
        ("alone", 1, 12), ("busy", 40, 12), ("again", 1, 12),
    ]  # fmt: skip
    assert len(bodies) == guard.OPENING + 12 + 40 + 12
    assert {body["temperature"] for body in bodies} == {0}


def test_a_silent_server_takes_no_longer_than_the_budget() -> None:
    began = time.monotonic()
    asked = of("silent", seconds=1.5)
    assert time.monotonic() - began < 30
    assert not asked.answers
    assert judge(asked, of("well"), RULES).word == "unknown"


def test_a_server_that_is_gone_costs_the_answers_alone(tmp_path: Path) -> None:
    story = story_of(tmp_path)
    guard.after_measuring(story, make_deployment(tmp_path, "http://127.0.0.1:9"), None)
    record = to_record(story)
    assert (record.status, record.failure) == ("ok", None)
    assert [step.step for step in record.steps] == ["quality"]
    assert record.asked is not None
    assert "connection refused" in str(record.asked.error)


def test_what_nobody_foresaw_costs_the_answers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no threads left")

    monkeypatch.setattr(guard, "ask_all", fails)
    story = story_of(tmp_path)
    guard.after_measuring(story, make_deployment(tmp_path, "http://127.0.0.1:9"), None)
    record = to_record(story)
    assert (record.status, record.failure) == ("ok", None)
    assert record.asked is not None
    assert record.asked.missing == "RuntimeError: no threads left"


def test_a_signal_ends_the_trial_while_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_stopped(*_: object) -> None:
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(guard, "ask_all", is_stopped)
    with pytest.raises(Interrupted):
        guard.after_measuring(story_of(tmp_path), make_deployment(tmp_path, "http://127.0.0.1:9"), None)


def test_a_trial_without_time_left_is_not_asked(tmp_path: Path) -> None:
    story = story_of(tmp_path, timeouts={**CONFIG["timeouts"], "trial_s": 1e-6})
    with answering() as server:
        story.plan = make_plan(tmp_path)
        asked = guard.ask_all(Engine(url=server.url, model="tiny"), 1, guard.budget_s(story))
        assert not server.bodies
    assert asked.missing is not None


def story_of(
    folder: Path, *, score: float = 100.0, phase: Phase = "search", knobs: dict[str, Any] | None = None, **changes: Any
) -> Story:
    """A trial of a sweep that has been measured."""
    place = Place(
        sweep_id="s", number=7, overrides=(), run_dir=RunDir(folder / "7"), phase=phase,
        repeat_of=None if phase == "search" else 3,
    )  # fmt: skip
    made = Story(place, make_config(**{"quality": GUARD, "knobs": knobs or CONFIG["knobs"], **changes}), FakeProgress())
    made.plan = make_plan(folder)
    made.levels, made.objective = [*make_levels()], {"output_tokens_per_s": score}
    return made


BEST = Incumbent(number=1, level="D(64,16) x1", score=100.0)


@pytest.mark.parametrize(
    ("score", "best", "is_asked"), [(100.0, None, True), (100.0, BEST, True), (101.0, BEST, True), (99.0, BEST, False)]
)
def test_a_trial_of_a_search_is_asked_if_nothing_better_is_known(
    tmp_path: Path, score: float, best: Incumbent | None, *, is_asked: bool
) -> None:
    assert guard.is_wanted(story_of(tmp_path, score=score), best) == is_asked


def test_without_a_race_the_records_of_the_sweep_tell_what_is_known(tmp_path: Path) -> None:
    twin._read.clear()
    better = make_record(number=2, objective={"output_tokens_per_s": 120.0}, best_level="D(64,16) x1")
    (tmp_path / "2").mkdir()
    save(SweepDir(tmp_path).trial(2).record, better)
    assert not guard.is_wanted(story_of(tmp_path, score=110.0), None)
    assert guard.is_wanted(story_of(tmp_path, score=130.0), None)


def test_the_baseline_is_always_asked(tmp_path: Path) -> None:
    assert guard.is_wanted(story_of(tmp_path, score=1.0, knobs={"page_size": None, "slots": None}), BEST)


def test_a_baseline_beside_fixed_knobs_is_asked(tmp_path: Path) -> None:
    story = story_of(tmp_path, score=1.0)
    assert story.config.is_reference(["slots"])
    assert not story.config.is_reference(["slots", "page_size"])
    assert not story.config.is_reference(["traffic.seed"])
    story.place = replace(story.place, is_reference=True)
    assert guard.is_wanted(story, BEST)


@pytest.mark.parametrize("phase", ["confirm", "held_out", "between"])
def test_a_confirmation_asks_who_was_not_asked(tmp_path: Path, phase: Phase) -> None:
    story = story_of(tmp_path, phase=phase)
    assert guard.is_wanted(story, None) == (phase == "confirm")
    (tmp_path / "3").mkdir()
    save(SweepDir(tmp_path).trial(3).record, replace(make_record(number=3), asked=of("well")))
    assert not guard.is_wanted(story, None)


@pytest.mark.parametrize(
    ("may_change", "always", "kind", "is_asked"),
    [
        (True, False, "guard", True), (False, False, "guard", False), (False, True, "guard", True),
        (True, True, "none", False),
    ],
)  # fmt: skip
def test_nobody_is_asked_where_nothing_can_change_answers(
    tmp_path: Path, kind: str, *, may_change: bool, always: bool, is_asked: bool
) -> None:
    story = story_of(tmp_path, quality={"name": kind, "kind": kind, "always": always})
    story.place = replace(story.place, may_change_answers=may_change)
    assert guard.is_wanted(story, None) == is_asked


@pytest.mark.parametrize(
    ("swept", "may"),
    [
        (("slots",), False), (("page_size",), True), (("vllm.page_size",), True), (("model.path",), True),
        (("runtime.extra_args",), True), (("traffic.seed",), False), ((), False), (("runtime",), False),
    ],
)  # fmt: skip
def test_what_a_sweep_varies_says_whether_answers_may_change(swept: tuple[str, ...], *, may: bool) -> None:
    knobs = {**KNOBS, "page_size": {**KNOBS["page_size"], "changes_answers": True}}
    assert make_config(runtime={**CONFIG["runtime"], "knobs": knobs}).answers_may_change(swept) == may


def test_a_trial_that_is_no_contender_leaves_no_step(tmp_path: Path) -> None:
    story = story_of(tmp_path, quality={"name": "none", "kind": "none"})
    guard.after_measuring(story, make_deployment(tmp_path, "http://127.0.0.1:9"), None)
    assert (story.asked, story.timings.done) == (None, [])


def test_the_budget_is_a_share_of_the_trial_or_the_least(tmp_path: Path) -> None:
    story = story_of(tmp_path)
    assert guard.budget_s(story) == pytest.approx(10, abs=1)
    story.began_s -= 100
    quality = replace(story.config.quality, budget_s=1.0, budget_share=0.5)
    story.config = replace(story.config, quality=quality, timeouts=replace(story.config.timeouts, trial_s=1000.0))
    assert guard.budget_s(story) == pytest.approx(50, rel=0.2)
