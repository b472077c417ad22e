"""All that runs on this machine, as values: by the files of who is at work, and by the leases."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from pipeline.backends import lease
from pipeline.core.files import SweepDir
from pipeline.core.values import value
from pipeline.machine import identity
from pipeline.machine.identity import Identity
from pipeline.trial import at_work
from pipeline.trial.at_work import Command, Running


@value
class Trial:
    """A trial that runs; what only its lease tells of it, where it has one."""

    number: int | None
    overrides: tuple[str, ...]
    phase: str
    run_dir: Path
    owner: Identity
    since: datetime
    step: str
    detail: str
    step_since: datetime
    backend: str
    gpus: tuple[str, ...]
    cores: tuple[int, ...]
    label: str | None = None  # of what was deployed
    server_pid: int | None = None
    server_port: int | None = None


@value
class Sweep:
    """A command that runs, in its folder. `owner` None: its process is gone, and its trials have yet to notice."""

    folder: Path
    is_sweep: bool
    is_search: bool  # the same command goes on with it
    swept: tuple[str, ...]  # names of what its trials differ in
    owner: Identity | None
    since: datetime
    ended: int
    trials: tuple[Trial, ...]


@value
class Left:
    """What a trial has left whose process is gone."""

    label: str
    backend: str
    run_dir: Path


@value
class View:
    """Everything there is."""

    sweeps: tuple[Sweep, ...]
    left_behind: tuple[Left, ...]


def look() -> View:
    """What runs at this moment."""
    leases = [one for one in lease.all_registered() if at_work.is_here(one.owner) and identity.is_alive(one.owner)]
    commands, trials = at_work.commands(), at_work.trials()
    sweeps = [_sweep(one, [each for each in trials if each.command == one.owner], leases) for one in commands]
    known = {one.owner for one in commands}
    strays = [one for one in trials if one.command not in known]
    known |= {one.owner for one in trials}
    unknown = [_by_lease(one) for one in leases if one.owner not in known]
    return View(
        sweeps=(*sweeps, *_alone([*(_trial(one, leases) for one in strays), *unknown])),
        left_behind=tuple(
            Left(label=one.label, backend=_backend(one), run_dir=one.run_dir)
            for one in lease.all_registered()
            if not identity.is_alive(one.owner)
        ),
    )


def _sweep(command: Command, trials: Sequence[Running], leases: Sequence[lease.Lease]) -> Sweep:
    return Sweep(
        folder=command.folder,
        is_sweep=command.is_sweep,
        is_search=command.is_search,
        swept=command.swept,
        owner=command.owner,
        since=command.since,
        ended=len(SweepDir(command.folder).records) if command.is_sweep else 0,
        trials=tuple(_trial(one, leases) for one in trials),
    )


def _alone(trials: Sequence[Trial]) -> Iterator[Sweep]:
    """Trials whose command is not known, by folder."""
    for folder in dict.fromkeys(one.run_dir.parent for one in trials):
        own = tuple(one for one in trials if one.run_dir.parent == folder)
        ended, since = len(SweepDir(folder).records), min(one.since for one in own)
        yield Sweep(
            folder=folder, is_sweep=True, is_search=False, swept=(), owner=None, since=since, ended=ended, trials=own
        )


def _trial(running: Running, leases: Sequence[lease.Lease]) -> Trial:
    """Of a process that has several leases, the newest: it may have kept a server for the next trial."""
    own = max((one for one in leases if one.owner == running.owner), key=lambda one: one.created_at, default=None)
    return Trial(
        number=running.number,
        overrides=running.overrides,
        phase=running.phase,
        run_dir=running.run_dir,
        owner=running.owner,
        since=running.since,
        step=running.step,
        detail=running.detail,
        step_since=running.step_since,
        backend=running.backend,
        gpus=running.gpus,
        cores=running.cores,
        label=own.label if own else None,
        server_pid=own.pid if own else None,
        server_port=own.port if own else None,
    )


def _by_lease(owned: lease.Lease) -> Trial:
    return Trial(
        number=None,
        overrides=(),
        phase="search",
        run_dir=owned.run_dir,
        owner=owned.owner,
        since=owned.created_at,
        step="unknown",
        detail="",
        step_since=owned.created_at,
        backend=_backend(owned),
        gpus=(),
        cores=(),
        label=owned.label,
        server_pid=owned.pid,
        server_port=owned.port,
    )


def _backend(owned: lease.Lease) -> str:
    return owned.backend.rpartition(".")[0].rpartition(".")[2]
