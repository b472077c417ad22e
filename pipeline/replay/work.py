"""Plays many searches in several processes."""

import os
import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.values import parse, plain, value
from pipeline.machine import signals
from pipeline.machine.companion import Companion, scratch
from pipeline.replay import lessons, play, sources
from pipeline.replay.landscape import Landscape
from pipeline.replay.play import Budget, Run
from pipeline.replay.sources import Source
from pipeline.replay.strategies import Strategy
from pipeline.replay.tables import Options

TICK_S = 0.2
SOON_S = 60.0  # for the rest of an answer whose beginning is there
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # each process has a core of its own


@value
class Setup:
    """What is replayed."""

    sources: tuple[Source, ...]
    options: Options
    strategies: tuple[Strategy, ...]
    seeds: int
    budget: Budget
    learn_from: Mapping[str, tuple[Source, ...]] = Field(default_factory=dict)  # by the name of the landscape
    teacher: Strategy | None = None  # what played the past sweeps

    @property
    def size(self) -> int:
        """How many searches that is."""
        return len(self.sources) * len(self.strategies) * self.seeds


@value
class Job:
    """One search: which landscape, which seed, which strategy."""

    source: Source
    options: Options
    strategy: Strategy
    seed: int
    budget: Budget
    learn_from: tuple[Source, ...] = ()
    teacher: Strategy | None = None


def jobs(setup: Setup) -> Iterator[Job]:
    """All searches; those of one landscape follow each other."""
    for source, seed, strategy in product(setup.sources, range(setup.seeds), setup.strategies):
        job = Job(source=source, options=setup.options, strategy=strategy, seed=seed, budget=setup.budget)
        others = setup.learn_from.get(sources.name_of(source), ()) if strategy.learn else ()
        yield replace(job, learn_from=others, teacher=setup.teacher if others else None)


def done(job: Job) -> Run:
    """Play it here."""
    number, teacher = job.seed % lessons.PASTS, job.teacher
    known = [lessons.of(one, job.options, teacher, number, job.budget) for one in job.learn_from if teacher]
    return play.play(_opened(job.source, job.options), job.strategy, job.seed, job.budget, known)


@lru_cache(maxsize=1)
def _opened(source: Source, options: Options) -> Landscape:
    return sources.opened(source, options)


def runs(setup: Setup, workers: int) -> Iterator[Run]:
    """The searches, each as soon as it has ended. Whatever ends the iteration ends the processes.

    Raises:
        PipelineError: a process died.
        ConfigError: a strategy or landscape that could be made here cannot be played.
    """
    waiting = jobs(setup)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(scratch()))
        crew = [stack.enter_context(closing(_companion(folder / str(at)))) for at in range(min(workers, setup.size))]
        busy = {one for one in crew if _given(one, waiting)}
        while busy:
            for one in _heard_from(busy):
                yield _run(one)
                if not _given(one, waiting):
                    busy.discard(one)


def _companion(log: Path) -> Companion:
    return Companion("pipeline.replay.worker", log=log, env={**os.environ, **dict.fromkeys(ONE_THREAD, "1")})


def _given(one: Companion, waiting: Iterator[Job]) -> bool:
    job = next(waiting, None)
    if job is None:
        return False
    one.send(plain(job))
    return True


def _heard_from(busy: set[Companion]) -> Sequence[Companion]:
    by_pipe = {one.child.stdout: one for one in busy if one.child.stdout}
    while True:
        signals.check()
        ready, _, _ = select.select([*by_pipe], [], [], TICK_S)
        if ready:
            return [by_pipe[pipe] for pipe in ready]


def _run(one: Companion) -> Run:
    answer = one.answer(timeout_s=SOON_S)
    if answer is None:
        told = one.log.read_text("utf-8", errors="replace").strip().splitlines()[-5:]
        raise PipelineError("A process of the replay died. " + " ".join(told), hint="Try fewer --workers.")
    if "error" in answer:
        raise ConfigError(str(answer["error"]))
    return parse(Run, answer)


def answer(command: Mapping[str, Any]) -> dict[str, Any]:
    """In the worker: what a job has come to."""
    try:
        found: dict[str, Any] = plain(done(parse(Job, command)))
    except PipelineError as error:
        return {"error": str(error)}
    return found
