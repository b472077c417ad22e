"""Who is at work: a file in the state directory for each command and each trial that runs.

`servetune ps` and `servetune stop` read them. A file whose process has ended without a word is found out by the
identity in it. Nothing here may cost a trial: what cannot be written is not shown.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from pipeline.backends import lease
from pipeline.core.record import Phase, Record
from pipeline.core.schema import Config
from pipeline.core.values import load, now, to_json, value
from pipeline.machine import identity, owner, signals
from pipeline.machine.identity import Identity
from pipeline.trial.story import Story

AGAIN_S = 1.0  # between two notes on how far the same step is
HEAD = 2  # words of what is told of a step that say which level it is at, not how far
W = TypeVar("W", "Command", "Running")


@value
class Command:
    """A process that runs a sweep, or a trial that is no sweep's, in its folder."""

    owner: Identity
    folder: Path
    is_sweep: bool
    is_search: bool  # the same command goes on with it
    swept: tuple[str, ...]  # names of what its trials differ in
    since: datetime


@value
class Running:
    """A trial that runs, and the process that runs it; `command`: the process whose sweep it belongs to."""

    owner: Identity
    command: Identity
    run_dir: Path
    number: int
    overrides: tuple[str, ...]
    phase: Phase
    backend: str  # with where that is, where that is not this machine
    since: datetime
    step: str
    detail: str
    step_since: datetime
    gpus: tuple[str, ...] = ()
    cores: tuple[int, ...] = Field(default=())


def folder() -> Path:
    """Where the files are."""
    return lease.state_dir() / "at-work"


def begin(where: Path, *, is_sweep: bool, is_search: bool, swept: Sequence[str]) -> None:
    """This process works in that folder from now on."""
    us = identity.of()
    work = Command(
        owner=us,
        folder=where.resolve(),
        is_sweep=is_sweep,
        is_search=is_search,
        swept=tuple(swept),
        since=now(),
    )
    _put(_command(us), work)


def end() -> None:
    """Nothing more is done in the folder."""
    _remove(_command(identity.of()))


def _command(who: Identity) -> Path:
    return folder() / f"{_name(who)}.command"


@contextmanager
def noted(story: Story) -> Iterator[None]:
    """The trial of this process is shown in this scope, and can be stopped alone."""
    notes = _Notes(story)
    story.progress = notes
    try:
        with signals.ends_alone(wish(notes.running).exists):
            notes.write()
            yield
    finally:
        _remove(path_of(notes.running))
        _remove(wish(notes.running))


def path_of(running: Running) -> Path:
    """The file of a trial: it is there as long as the trial is not at its end."""
    return folder() / f"{_name(running.owner)}-{running.number}.trial"


def wish(running: Running) -> Path:
    """The file whose existence asks for the end of the trial alone."""
    return path_of(running).with_suffix(".stop")


class _Notes:
    """The Progress of a trial: passes everything on, and keeps the trial's file up to date."""

    def __init__(self, story: Story) -> None:
        place, us = story.place, identity.of()
        self.story, self.shown = story, story.progress
        self.running = Running(
            owner=us,
            command=owner.of_this() or us,
            run_dir=place.run_dir.path.resolve(),
            number=place.number,
            overrides=place.overrides,
            phase=place.phase,
            backend=_backend(story.config),
            since=story.started_at,
            step=story.at,
            detail="",
            step_since=story.started_at,
        )
        self.written_at = now()

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """A trial starts."""
        self.shown.begin(number, overrides)

    def step(self, name: str, detail: str = "") -> None:
        """The running trial has reached a step, or is so far in it."""
        self.shown.step(name, detail)
        before, at = self.running, now()
        is_same = name == before.step and detail.split()[:HEAD] == before.detail.split()[:HEAD]
        if is_same and (at - self.written_at).total_seconds() < AGAIN_S:
            return
        slots = self.story.plan.slots if self.story.plan else None
        self.running = replace(
            before,
            step=name,
            detail=detail,
            step_since=before.step_since if is_same else at,
            gpus=slots.gpu_ids if slots else (),
            cores=slots.cores if slots else (),
        )
        self.write()

    def ended(self, record: Record) -> None:
        """The trial has left its record."""
        self.shown.ended(record)

    def close(self) -> None:
        """Nothing more will come."""
        self.shown.close()

    def write(self) -> None:
        """What is known now."""
        self.written_at = now()
        _put(path_of(self.running), self.running)


def commands() -> tuple[Command, ...]:
    """Those of this machine that run."""
    return tuple(one for one in _read(Command, "*.command") if is_here(one.owner))


def trials() -> tuple[Running, ...]:
    """Those that run: of this machine, and those that a sweep of this machine has on others."""
    own = {one.owner for one in commands()}
    return tuple(one for one in _read(Running, "*.trial") if is_here(one.owner) or one.command in own)


def is_here(who: Identity) -> bool:
    """Whether its process can be told to stop by us: it is of this machine, and of our container."""
    us = identity.of()
    return (who.host, who.pid_namespace) == (us.host, us.pid_namespace)


def _read(kind: type[W], pattern: str) -> Iterator[W]:
    """Those whose process lives, by their begin; files of the others are removed."""
    found: list[W] = []
    for path in folder().glob(pattern):
        try:
            one = load(kind, path)
        except (OSError, ValidationError):  # it has ended meanwhile, or is of another version
            continue
        if identity.is_alive(one.owner):
            found.append(one)
        else:
            _remove(path)
            _remove(path.with_suffix(".stop"))
    yield from sorted(found, key=lambda one: one.since)


def _backend(config: Config) -> str:
    """`local`; `docker`; `ome (context/namespace)`."""
    backend = config.backend
    if backend.url:
        return f"{backend.name} ({backend.url})"
    if backend.kubernetes:
        cluster = backend.kubernetes.cluster
        return f"{backend.name} ({cluster.context or 'default context'}/{cluster.namespace or 'its namespace'})"
    socket = backend.container.socket or os.environ.get("DOCKER_HOST") if backend.container else None
    return f"{backend.name} ({socket})" if socket else backend.name


def _name(who: Identity) -> str:
    return f"{who.host}-{who.pid}-{who.start_ticks}"


def _put(path: Path, item: object) -> None:
    """As files.save, but without waiting for the disk: a level may be running."""
    new = path.with_suffix(".new")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(to_json(item), "utf-8")
        new.replace(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
