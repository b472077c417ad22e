"""CPU time as /proc tells it: of every core, and of every process with the children that it has waited for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.values import value

BUSY = (0, 1, 2, 5, 6, 7)  # proc(5): user (guests included), nice, system, irq, softirq, steal; not idle, not iowait


@value
class Core:
    """Clock ticks of one core since boot. `stolen` by other guests of the host counts as busy."""

    busy: int
    total: int


@value
class Process:
    """A process and its clock ticks, those of children that it has waited for included."""

    pid: int
    parent: int
    started: int
    ticks: int


Table = Mapping[int, Process]


@dataclass(frozen=True, slots=True)
class System:
    """Where the kernel tells these things; a test plays the folders."""

    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")

    def cores(self) -> dict[int, Core]:
        """Every core of the machine; empty where the kernel does not tell."""
        found = {}
        for line in _text(self.proc / "stat").splitlines():
            name, *words = line.split()
            if name[:3] == "cpu" and name[3:].isdigit():
                ticks = [int(word) for word in words[:8]]
                found[int(name[3:])] = Core(busy=sum(ticks[at] for at in BUSY if at < len(ticks)), total=sum(ticks))
        return found

    def processes(self) -> dict[int, Process]:
        """Every process that can be seen from here."""
        pids = (int(path.name) for path in self.proc.iterdir() if path.name.isdigit())
        return {one.pid: one for one in map(self._process, pids) if one is not None}

    def _process(self, pid: int) -> Process | None:
        fields = _text(self.proc / str(pid) / "stat").rpartition(")")[2].split()
        if len(fields) < 20:
            return None
        used = sum(int(fields[at]) for at in (11, 12, 13, 14))  # proc(5): fields 14 to 17
        return Process(pid=pid, parent=int(fields[1]), started=int(fields[19]), ticks=used)

    def has_word(self, pid: int, file: str, word: str) -> bool:
        """Whether a file of a process, such as its environment, can be read and contains `word`."""
        with suppress(OSError):
            return word.encode() in (self.proc / str(pid) / file).read_bytes()
        return False

    def quota(self) -> float | None:
        """CPU time per second that our control group may use, in cores; None: no limit."""
        found = [cores for cores in map(_quota, self._groups()) if cores is not None]
        return min(found, default=None)

    def _groups(self) -> Iterator[Path]:
        """The folders of our group and of those around it, in both versions of control groups."""
        for line in _text(self.proc / "self" / "cgroup").splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = self.cgroup / "cpu" if controllers else self.cgroup
            inner = top / name.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))


def descendants(table: Table, roots: Sequence[int]) -> set[int]:
    """These processes and all that they started, as far as the table knows them."""
    children: dict[int, list[int]] = {}
    for one in table.values():
        children.setdefault(one.parent, []).append(one.pid)
    found: set[int] = set()
    waiting = [pid for pid in roots if pid in table]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def spent(before: Table, after: Table, tree: set[int]) -> int:
    """Ticks that a tree has used in between. `tree`: the processes that were in it at either time.

    One that has ended is in the ticks of the parent that waited for it. One whose parent ended first is not: what it
    had used before is left out of the sum, and what it used in between is nobody's.
    """
    used = sum(after[pid].ticks for pid in tree if pid in after)
    had = sum(before[pid].ticks for pid in tree if pid in before and _is_accounted(before, after, pid, tree))
    return max(0, used - had)


def _is_accounted(before: Table, after: Table, pid: int, tree: set[int]) -> bool:
    """Whether it or an ancestor in the tree still lives."""
    seen: set[int] = set()
    while pid in before and pid in tree and pid not in seen:
        if pid in after and after[pid].started == before[pid].started:
            return True
        seen.add(pid)
        pid = before[pid].parent
    return False


def _quota(folder: Path) -> float | None:
    """Source: Linux, admin-guide/cgroup-v2 (cpu.max) and scheduler/sched-bwc (cpu.cfs_quota_us)."""
    words = _text(folder / "cpu.max").split() or [
        *_text(folder / "cpu.cfs_quota_us").split(),
        *_text(folder / "cpu.cfs_period_us").split(),
    ]
    if len(words) != 2 or words[0] == "max" or int(words[0]) <= 0:
        return None
    return int(words[0]) / int(words[1])


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
