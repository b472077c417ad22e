"""What else the machine did while a level ran: the CPU of other processes, and the state of the trial's GPUs.

Others' CPU = busy - the engine's tree - ours, from two readings. Busy includes time that a hypervisor gave to others;
waiting for a disk is idle. Other trials on this machine are others. An orphan of the engine without its environment
counts as ours: it is below the engine's foster parent, which we have started.
"""

import math
import os
import time
from dataclasses import dataclass, replace

from pipeline.core.record import Load
from pipeline.core.values import value
from pipeline.machine import gpu_state, proc, process
from pipeline.machine.gpu_state import GpuState
from pipeline.machine.proc import Core, System, Table

CROWDED_SHARE = 0.1  # of the cores
TOLD = 0.5  # of the ticks that must have passed: a kernel that tells less (gVisor) tells nothing


@value
class Scope:
    """Whose load is not others': the engine's, found by its pid, label or container, and our own process tree's."""

    cores: tuple[int, ...] = ()  # that the trial has for itself; empty: all that we may use
    pid: int | None = None
    label: str = ""
    container: str | None = None  # its id
    gpu_ids: tuple[str, ...] = ()


@value
class Reading:
    """The machine at one moment."""

    at_s: float
    cores: dict[int, Core]
    table: dict[int, proc.Process]
    engine: frozenset[int]
    ours: frozenset[int]
    gpus: tuple[GpuState, ...]


@dataclass(frozen=True)
class Watch:
    """A measurement that has begun."""

    scope: Scope
    system: System
    first: Reading

    def end(self) -> Load | None:
        """What the machine did since; None where that cannot be told."""
        last = read(self.scope, self.system)
        return between(self.scope, self.first, last, usable=usable(self.scope, last), quota=self.system.quota())


def begin(scope: Scope, system: System | None = None) -> Watch:
    """Look at the machine before a level."""
    where = system or System()
    return Watch(scope, where, read(scope, where))


def crowded(load: Load) -> bool:
    """Whether others took so much that a result may be theirs."""
    return load.others_cores > CROWDED_SHARE * load.cores


def read(scope: Scope, system: System) -> Reading:
    """The machine at this moment."""
    at_s, cores, table = time.monotonic(), system.cores(), system.processes()
    engine = proc.descendants(table, _roots(scope, system, table))
    ours = proc.descendants(table, [os.getpid()]) - engine
    return Reading(
        at_s=at_s,
        cores=cores,
        table=table,
        engine=frozenset(engine),
        ours=frozenset(ours),
        gpus=gpu_state.read(scope.gpu_ids),
    )


def usable(scope: Scope, seen: Reading) -> tuple[int, ...]:
    """The cores that count: the trial's own, else those that we may use; a container may use all of them."""
    if scope.cores:
        return scope.cores
    return tuple(seen.cores) if scope.container else tuple(sorted(os.sched_getaffinity(0)))


def between(
    scope: Scope, first: Reading, last: Reading, *, usable: tuple[int, ...], quota: float | None
) -> Load | None:
    """The load between two readings; None where the kernel does not tell, or the engine cannot be seen."""
    seconds = last.at_s - first.at_s
    known = [core for core in usable if core in first.cores and core in last.cores]
    ticks = seconds * os.sysconf("SC_CLK_TCK")
    passed = sum(last.cores[core].total - first.cores[core].total for core in known)
    if not known or ticks <= 0 or passed < TOLD * ticks * len(known) or not last.engine:
        return None
    busy = sum(last.cores[core].busy - first.cores[core].busy for core in known)
    own = _spent(first, last, "engine") + _spent(first, last, "ours") * _share_of_ours(scope, usable)
    others = min(max(0.0, (busy - own) / ticks), float(len(known)))
    cores = len(known)
    if quota is not None and quota < cores:  # what others use of the rest does not hinder us
        others, cores = max(0.0, others - (cores - quota)), math.ceil(quota)
    strain = gpu_state.between(first.gpus, last.gpus, _known_pids(first, last), seconds)
    made = Load(
        cores=cores,
        others_cores=round(others, 3),
        is_crowded=strain.is_disturbed,
        notes=strain.notes,
        engine_cores=round(_spent(first, last, "engine") / ticks, 3),
        busiest_cores=round(_busiest(first, last) / ticks, 3),
    )
    return replace(made, is_crowded=made.is_crowded or crowded(made))


def _roots(scope: Scope, system: System, table: Table) -> list[int]:
    """The processes of the engine that can be told by themselves: by pid, by container, by the label they inherited."""
    found = [] if scope.pid is None else [scope.pid]
    known = proc.descendants(table, found)
    label = f"{process.LABEL}={scope.label}"
    for pid in table.keys() - known - {os.getpid()}:
        is_inside = scope.container is not None and system.has_word(pid, "cgroup", scope.container)
        if is_inside or (scope.label and system.has_word(pid, "environ", label)):
            found.append(pid)
    return found


def _spent(first: Reading, last: Reading, whose: str) -> int:
    tree = {*getattr(first, whose), *getattr(last, whose)}
    return proc.spent(first.table, last.table, tree)


def _busiest(first: Reading, last: Reading) -> int:
    """Ticks of the process of the engine that has used most; not of those that it waited for."""
    both = first.engine & last.engine & first.table.keys() & last.table.keys()
    return max((last.table[pid].ticks - first.table[pid].ticks for pid in both), default=0)


def _share_of_ours(scope: Scope, usable: tuple[int, ...]) -> float:
    """Our own processes run on all cores that we may use: the expected share of them on the trial's own."""
    allowed = os.sched_getaffinity(0)
    return len(allowed & set(usable)) / len(allowed) if scope.cores else 1.0


def _known_pids(first: Reading, last: Reading) -> dict[int, bool]:
    """Every process that can be seen from here: whether it is the engine's or ours."""
    own = first.engine | last.engine | first.ours | last.ours
    return {pid: pid in own for pid in (*first.table, *last.table)}
