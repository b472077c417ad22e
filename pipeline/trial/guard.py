"""The quality guard: asks the running server the fixed questions, at the end of a trial and before its teardown.

Whatever goes wrong here costs the answers, never the trial: it was measured already.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice, zip_longest

import requests
from pydantic import ValidationError

from pipeline.backends import Deployment
from pipeline.config import trial_limit
from pipeline.core import objectives, readable, sides
from pipeline.core.answers import Answer, Asked, How, Reading, Turn
from pipeline.core.files import SweepDir
from pipeline.core.racing import Incumbent
from pipeline.core.record import Level, Record
from pipeline.engines import answering, http, questions
from pipeline.engines.answering import Engine
from pipeline.machine import process, signals
from pipeline.report import answered
from pipeline.trial import already_there, twin
from pipeline.trial.story import Place, Story

TURNS: tuple[How, ...] = ("alone", "busy", "again")
MOST_USERS = 256  # at a time, however many the busiest level had
SPARE_S = 1.0  # of the trial's own limit that is left alone
OPENING, OPENING_SHARE = 2, 0.5  # a question and a passage whose answers do not count; of the time, at most
LEAST_S = 0.5  # less is not worth a question
LONGEST = 160  # characters of an error that are kept
BUSY_S = 0.02  # between two looks at the threads

Ask = Callable[[float], Answer | Reading]


@dataclass(frozen=True)
class Task:
    """One question or passage, and how it is asked within so many seconds."""

    name: str
    ask: Ask


def after_measuring(story: Story, deployment: Deployment, best: Incumbent | None) -> None:
    """Ask, if this is a trial whose answers may count; the record has what was answered, or why nothing was."""
    if story.plan is None or not is_wanted(story, best):
        return
    with story.step("quality"):
        began, seconds = time.monotonic(), budget_s(story)
        users = busiest(story.levels)
        engine = Engine(url=deployment.url, model=story.plan.served_name, reads=story.config.runtime.reads)
        try:
            story.asked = ask_all(engine, users, seconds)
        except Exception as error:  # noqa: BLE001 - a guard that fails fails no trial
            story.asked = Asked(questions=questions.load().version, missing=f"{type(error).__name__}: {error}")
        finally:
            signals.check()
        story.progress.step("quality", f"took {time.monotonic() - began:.1f} s")


def is_wanted(story: Story, best: Incumbent | None) -> bool:
    """Whether it is a baseline or may win: in a search, if nothing better is known; when confirmed, if not asked yet.

    `best`: the best trial of a search that races.
    """
    config, place = story.config, story.place
    if config.quality.kind != "guard" or not (place.may_change_answers or config.quality.always):
        return False
    if place.repeat_of is not None:
        return place.phase == "confirm" and not _was_asked(story)
    if place.is_reference or already_there.is_baseline(config, place.reason):
        return True
    if objectives.best_level(story.levels, config) is None or not story.objective:
        return False
    name, *others = objectives.names(config)
    if others:  # a front has no best one
        return True
    mine, is_maximised = story.objective[name], objectives.is_maximised(name)
    known = [best.score] if best else _scores(story, name)
    return not known or (mine >= max(known) if is_maximised else mine <= min(known))


def judged(done: Record, place: Place) -> Record:
    """The record with what can be said of its answers by now: for trackers, and who looks on."""
    if done.asked is None or not place.is_of_sweep:
        return done
    earlier = twin.measured(SweepDir(place.run_dir.path.parent))
    return replace(done, quality=answered.at_end(done, (one for one in earlier if one.number != done.number)))


def _scores(story: Story, name: str) -> list[float]:
    """Of the trials before it that may win, with the same engine."""
    mine = sides.of_words(story.place.overrides)
    before = [one for one in twin.measured(SweepDir(story.place.run_dir.path.parent)) if one.phase == "search"]
    barred = answered.barred([one for one in before if one.asked])
    fine = [one for one in before if one.number not in barred and sides.of_words(one.overrides) == mine]
    return [one.objective[name] for one in fine if one.objective and one.best_level and name in one.objective]


def _was_asked(story: Story) -> bool:
    """Whether the first trial of this configuration has answers; False where nobody can tell."""
    first = SweepDir(story.place.run_dir.path.parent).trial(story.place.repeat_of or 0)
    try:
        asked = readable.read(Record, first.record).asked
    except (OSError, ValidationError):
        return False
    return asked is not None and bool(asked.answers)


def budget_s(story: Story) -> float:
    """Seconds for all of it: a share of what the trial has taken, or the least; no more than the trial has left."""
    quality = story.config.quality
    taken_s = trial_limit.of(story.config) - story.left_s
    return min(max(quality.budget_s, quality.budget_share * taken_s), story.left_s - SPARE_S)


def busiest(levels: Sequence[Level]) -> int:
    """The users of the busiest level that was measured."""
    return min(MOST_USERS, max((level.concurrency for level in levels if level.metrics), default=1))


def ask_all(engine: Engine, users: int, seconds: float) -> Asked:
    """Everything, three times: one question at a time, as many at a time as the busiest level had, one at a time again.

    Each turn has an equal part of the time that is left; what the first one did not reach is not asked later. The
    very first request may take long: an engine compiles what gives log-probabilities when it first needs it.
    """
    asked, began = questions.load(), time.monotonic()
    tasks, turns = tasks_of(engine), list[Turn]()
    ask_turn(tasks[:OPENING], "alone", 1, seconds * OPENING_SHARE)
    for at, how in enumerate(TURNS):
        left_s = seconds - (time.monotonic() - began)
        if left_s < LEAST_S or (turns and not tasks):
            break
        turn = ask_turn(tasks, how, users if how == "busy" else 1, left_s / (len(TURNS) - at))
        turns.append(turn)
        had = {one.question for one in turns[0].answers} | {one.passage for one in turns[0].readings}
        tasks = [task for task in tasks if task.name in had]
    spent_s = time.monotonic() - began
    missing = None if len(turns) == len(TURNS) else f"{seconds:.0f} s were too short for it"
    return Asked(questions=asked.version, turns=tuple(turns), missing=missing, seconds=round(spent_s, 3))


def tasks_of(engine: Engine) -> list[Task]:
    """Questions and passages in turn."""
    asked = questions.load()
    said = [_question(engine, name, text) for name, text in asked.questions.items()]
    read = [_passage(engine, name, text) for name, text in asked.passages.items() if engine.reads != "none"]
    return [task for pair in zip_longest(said, read) for task in pair if task is not None]


def _question(engine: Engine, name: str, text: str) -> Task:
    most = questions.load().max_tokens
    return Task(name, lambda left_s: answering.ask(engine, name, text, max_tokens=most, timeout_s=left_s))


def _passage(engine: Engine, name: str, text: str) -> Task:
    return Task(name, lambda left_s: answering.expect(engine, name, text, timeout_s=left_s))


def ask_turn(tasks: Sequence[Task], how: How, users: int, seconds: float) -> Turn:
    """Each task once; with more users than tasks, some of them several times, and the first answer to each counts."""
    began = time.monotonic()
    turn = _Asking(islice(cycle(tasks), max(len(tasks), users)), began + seconds)
    threads = [
        threading.Thread(target=turn.work, daemon=True) for _ in range(users)
    ]  # a silent server holds none of us
    for thread in threads:
        thread.start()
    process.wait_until(lambda: not any(thread.is_alive() for thread in threads), timeout_s=seconds, interval_s=BUSY_S)
    return turn.ended(tasks, how, users, time.monotonic() - began)


@dataclass
class _Asking:
    """What the threads of one turn share."""

    tasks: Iterator[Task]
    end: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    found: dict[str, Answer | Reading] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    is_over: bool = False

    def work(self) -> None:
        """Ask one after another until there are no more, or the time is over."""
        while (task := self._next()) is not None:
            try:
                seen = task.ask(max(self.end - time.monotonic(), LEAST_S))
            except Exception as error:  # noqa: BLE001 - whatever a server may answer
                self._failed(error)
            else:
                with self.lock:
                    if not self.is_over:
                        self.found.setdefault(task.name, seen)

    def _next(self) -> Task | None:
        with self.lock:
            return None if self.is_over or time.monotonic() >= self.end else next(self.tasks, None)

    def _failed(self, error: Exception) -> None:
        shape = f"an answer of another shape ({type(error).__name__}: {error})"[:LONGEST]
        words = http.words(error) if isinstance(error, requests.RequestException) else shape
        with self.lock:
            if not self.is_over:
                self.errors[words] = self.errors.get(words, 0) + 1

    def ended(self, tasks: Sequence[Task], how: How, users: int, seconds: float) -> Turn:
        """What has come so far, in the order of the tasks; what comes later is not counted."""
        with self.lock:
            self.is_over = True
            found = [self.found[task.name] for task in tasks if task.name in self.found]
            return Turn(
                how=how,
                users=users,
                answers=tuple(one for one in found if isinstance(one, Answer)),
                readings=tuple(one for one in found if isinstance(one, Reading)),
                errors=dict(self.errors),
                seconds=round(seconds, 3),
            )
