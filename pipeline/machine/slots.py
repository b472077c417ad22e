"""Reserves GPUs and CPU cores of this machine for one trial.

A trial shares its locks with its keeper, so they last until the server is removed. A trial takes everything it needs at
once or nothing: no trial waits for one GPU while it holds another.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pipeline.core.errors import FailureKind, PreflightFailed
from pipeline.core.plan import Slots
from pipeline.core.schema import Config
from pipeline.core.values import value
from pipeline.machine import amd_gpus, gpus, locks, visible
from pipeline.machine.gpus import Gpu

AGAIN_S = 0.5
SETTLE_S = 15.0  # that a process which ends may take to give a GPU's memory back
Tell = Callable[[str], None]


@value
class Held:
    """Slots, and the open files whose locks they are."""

    slots: Slots = Slots()
    files: tuple[int, ...] = ()


@value
class _Place:
    """A GPU or core that a trial may take."""

    id: str
    kind: Literal["GPU", "core", "endpoint"]
    gpu: Gpu | None = None
    key: str = ""  # of a GPU that NVML does not know: the same for every way to name it

    @property
    def file(self) -> str:
        if self.kind == "endpoint":
            return f"endpoint-{hashlib.sha256(self.id.encode()).hexdigest()[:16]}.lock"
        return f"{self.kind}-{self.gpu.uuid if self.gpu else self.key or self.id}.lock"

    @property
    def busy(self) -> str | None:
        return self.gpu.busy if self.gpu else None


@value
class _Need:
    """So many of these places."""

    count: int
    places: tuple[_Place, ...]
    take_busy: bool = False


class _Taker:
    """Locks what is free, and remembers what was in the way."""

    def __init__(self) -> None:
        self.files: dict[_Place, int] = {}
        self.trials: dict[_Place, str] = {}  # that have a place: they end
        self.strangers: dict[_Place, str] = {}  # programs that use a place

    def take(self, need: _Need) -> tuple[_Place, ...] | None:
        """The best of the places, locked; None if there are not as many."""
        free = [place for place in need.places if self._lock(place, take_busy=need.take_busy)]
        if len(free) < need.count:
            return None
        chosen = _best(free, need.count)
        locks.give_back(self.files.pop(place) for place in set(free) - set(chosen))
        return chosen

    @property
    def told(self) -> str:
        """What was in the way."""
        return "; ".join(f"{place.kind} {place.id}: {who}" for place, who in {**self.trials, **self.strangers}.items())

    def _lock(self, place: _Place, *, take_busy: bool) -> bool:
        file = locks.take(place.file)
        if file is None:
            self.trials[place] = locks.holder(place.file)
        elif place.busy and not take_busy:
            self.strangers[place] = place.busy
            locks.give_back([file])
        else:
            self.files[place] = file
        return place in self.files


def gpu_count(config: Config) -> int:
    """GPUs that the trial takes of this machine; of the job's node, where nobody has looked at it yet."""
    if config.backend.is_elsewhere:
        return 0
    if config.hardware.is_auto:
        return max(1, config.gpus) if config.runtime.on_gpu else 0
    return config.gpus


@contextmanager
def taken(config: Config, run_dir: Path, tell: Tell) -> Iterator[Held]:
    """The trial's slots, for this scope; waits until they are free. `tell` hears what it waits for, and may raise.

    Raises:
        PreflightFailed: there are not as many, or other programs use them.
        ConfigError: hardware.gpu_ids names GPUs that are hidden or not there.
    """
    wants_any = gpu_count(config) or config.hardware.cores_per_trial or config.backend.is_endpoint
    held = _await(config, run_dir, tell) if wants_any else Held()
    try:
        yield held
    finally:
        locks.give_back(held.files)


def survey(config: Config) -> str:
    """What trials may take and what is in the way at the moment, for the doctor.

    Raises:
        PreflightFailed: there are never as many as the trial takes.
    """
    needs = _needs(config)
    _insist(needs)
    with _taker() as taker:
        if taker is None:
            return "another trial is choosing at this moment"
        for need in needs:
            taker.take(replace(need, count=0))
        is_seen = all(place.kind == "core" or place.gpu for need in needs for place in need.places)
        free = "all free" if is_seen else "as configured: nobody tells whether they are there and free"
        return f"{sum(len(need.places) for need in needs)} to choose from; {taker.told or free}"


def insist(config: Config) -> str:
    """How many a trial may choose from; nothing is written.

    Raises:
        PreflightFailed: there are never as many as the trial takes.
        ConfigError: hardware.gpu_ids names GPUs that are hidden or not there.
    """
    needs = _needs(config)
    _insist(needs)
    return f"{sum(len(need.places) for need in needs)} to choose from"


def _await(config: Config, run_dir: Path, tell: Tell) -> Held:
    hopeless_since = None
    while True:
        needs = _needs(config)
        _insist(needs)
        with _taker() as taker:
            if taker is not None:
                if held := _attempt(needs, taker):
                    _sign(held, run_dir)
                    taker.files.clear()  # they are the caller's now
                    return held
                tell(f"waiting for {_words(needs)} ({taker.told})")
                hopeless_since = (hopeless_since or time.monotonic()) if _is_hopeless(needs, taker) else None
                if hopeless_since and time.monotonic() - hopeless_since >= SETTLE_S:
                    raise _busy(needs, taker)
        time.sleep(AGAIN_S)


def _attempt(needs: Sequence[_Need], taker: _Taker) -> Held | None:
    """All that the trial needs, or None."""
    chosen = [taker.take(need) for need in needs]
    if None in chosen:
        return None
    places = [place for some in chosen for place in some or ()]
    slots = Slots(
        gpu_ids=tuple(place.id for place in places if place.kind == "GPU"),
        gpu_used_mib={place.gpu.uuid: place.gpu.used_mib for place in places if place.gpu},
        cores=tuple(int(place.id) for place in places if place.kind == "core"),
    )
    return Held(slots=slots, files=tuple(taker.files.values()))


def _needs(config: Config) -> tuple[_Need, ...]:
    """What the trial needs, as the machine is at this moment."""
    hardware, count, cores = config.hardware, gpu_count(config), config.hardware.cores_per_trial
    gpu_need = _Need(count=count, places=tuple(_gpu_places(config)), take_busy=hardware.take_busy_gpus)
    core_need = _Need(count=cores or 0, places=tuple(_core_places()))
    url = config.backend.url  # one trial at a time: two would measure each other
    url_need = _Need(count=1, places=(_Place(id=url or "", kind="endpoint"),))
    wanted = ((gpu_need, count), (core_need, cores), (url_need, url))
    return tuple(need for need, is_wanted in wanted if is_wanted)


def _gpu_places(config: Config) -> Iterator[_Place]:
    hardware = config.hardware
    if hardware.vendor == "amd":
        for one in amd_gpus.allowed(hardware.gpu_ids, hardware.gpu_count):
            yield _Place(id=one.place if config.backend.container else one.id, kind="GPU", key=one.key)
        return
    shown = gpus.visible_ids()
    ids = tuple(map(visible.plain, hardware.gpu_ids)) or shown
    seen = gpus.look() if hardware.vendor == "nvidia" and gpu_count(config) else None
    if seen is None or any(one.startswith(gpus.SLICE) for one in ids):  # nobody to ask: the configuration is believed
        is_comparable = all(one.isdigit() for one in (*ids, *shown))
        if shown and is_comparable and not gpus.are_lent():
            gpus.check_ids(ids, good=shown, there=())
        named = dict.fromkeys(one for one in ids if one in shown or not gpus.are_lent())
        yield from (_Place(id=one, kind="GPU") for one in (named if ids else map(str, range(hardware.gpu_count))))
    else:
        yield from (_Place(id=str(gpu.index), kind="GPU", gpu=gpu) for gpu in gpus.allowed(seen, hardware.gpu_ids))


def _core_places() -> Iterator[_Place]:
    for core in sorted(os.sched_getaffinity(0), key=_siblings_together):
        yield _Place(id=str(core), kind="core")


def _siblings_together(core: int) -> tuple[int, int, int]:
    """The cores by socket, then by physical core, so trials share none. Source: Linux, admin-guide/cputopology."""
    topology = Path(f"/sys/devices/system/cpu/cpu{core}/topology")
    with suppress(OSError, ValueError):
        socket, physical = (int((topology / name).read_text("ascii")) for name in ("physical_package_id", "core_id"))
        return socket, physical, core
    return 0, core, core


def _best(free: Sequence[_Place], count: int) -> tuple[_Place, ...]:
    by_gpu = {place.gpu: place for place in free if place.gpu}
    return tuple(by_gpu[gpu] for gpu in gpus.nearest(list(by_gpu), count)) if by_gpu else tuple(free[:count])


@contextmanager
def _taker() -> Iterator[_Taker | None]:
    """The right to choose, which one process has at a time; None where another one has it at this moment."""
    chooser = locks.take("choosing.lock")
    taker = _Taker()
    try:
        yield None if chooser is None else taker
    finally:
        locks.give_back([*taker.files.values(), *([] if chooser is None else [chooser])])


def _sign(held: Held, run_dir: Path) -> None:
    for file in held.files:
        locks.sign(file, f"trial {run_dir} (pid {os.getpid()})")


def _insist(needs: Sequence[_Need]) -> None:
    """Check that there are enough places, free or not."""
    for need in needs:
        if need.count > len(need.places):
            raise PreflightFailed(
                f"The trial needs {_words([need])}; it may choose from {len(need.places)}.",
                hint="Check hardware.gpu_ids, hardware.cores_per_trial, CUDA_VISIBLE_DEVICES and nvidia-smi.",
            )


def _is_hopeless(needs: Sequence[_Need], taker: _Taker) -> bool:
    """Whether there are too few even when all other trials have ended."""
    return any(need.count > len(set(need.places) - set(taker.strangers)) for need in needs)


def _busy(needs: Sequence[_Need], taker: _Taker) -> PreflightFailed:
    return PreflightFailed(
        f"The trial needs {_words(needs)}; other programs use them: {taker.told}.",
        kind=FailureKind.GPU_BUSY,
        hint="End those programs, or set other GPUs: 'hardware.gpu_ids=[...]'. hardware.take_busy_gpus=true uses "
        "busy GPUs anyway.",
    )


def _words(needs: Sequence[_Need]) -> str:
    kinds = ((need.count, need.places[0].kind if need.places else "GPU") for need in needs)
    return " and ".join(f"{count} {kind}{'s' * (count != 1)}" for count, kind in kinds)
