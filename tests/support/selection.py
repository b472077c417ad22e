"""Which cases of the teardown matrix run by default: the cheapest that together exercise whatever all of them exercise.

Outside of a backend's own modules nothing knows which backend it talks to (the import contract sees to that): what a
trial does when a step breaks in a certain way is the same code everywhere, and one backend suffices. A backend in turn
is only ever told to remove a lease: what it does depends on what exists by then (the step) and on who asks (the trial,
which may still have its connections, or the keeper or the reaper, which have the lease alone). So the selection has

- every way to break with every step, and with every variant of it (which signal, the process or its group ...) for
  every remover: a SIGKILL of the group says nothing of the keeper while there is none,
- every backend with every step and every remover of the server there, and every backend with every way.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support.homes import HOMES

COSTS = {home.name: home.pace for home in HOMES}
NAMES = ("place", "row", "step")  # parameters with a meaning; all others are variants of a way


@dataclass(frozen=True)
class Case:
    """One case of the matrix. `way` is its test function: exception, hang, signal heard, signal held, kill ..."""

    way: str
    backend: str
    step: str
    by: str | None  # who is expected to remove the server; "?": the test says that itself
    variant: tuple[tuple[str, str], ...]  # which signal, the process or its group, the engine's fault ...
    any_backend: bool = False

    @property
    def cost(self) -> float:
        """How long it takes, compared with a case on this machine."""
        return COSTS.get(self.backend, max(COSTS.values()))

    @property
    def exercises(self) -> Iterator[Hashable]:
        """What is lost if no case like this one runs."""
        yield self.way, "at", self.step
        yield self.way, "as", self.variant, "removed by", self.by
        if self.by != "?":
            yield self.backend, "at", self.step, "removed by", self.by
        if not self.any_backend:
            yield self.backend, "in", self.way


def case(way: str, given: Mapping[str, Any], *, any_backend: bool = False) -> Case:
    """The case that a test with these parameters is."""
    row = given.get("row")
    return Case(
        way=way,
        backend=str(given["place"]),
        step=str(given.get("step") or (row.step if row else "")),
        by=row.by if row else "?",
        variant=tuple((name, _word(given[name])) for name in sorted(given) if name not in NAMES),
        any_backend=any_backend,
    )


def _word(value: Any) -> str:
    return str(getattr(value, "name", value))


def choose(cases: Sequence[Case]) -> set[int]:
    """The numbers of the chosen cases: always the one that adds most, of these the quickest; then none needlessly."""
    wanted = _quickest(cases)
    missing: set[Hashable] = set().union(*wanted)
    chosen: set[int] = set()
    while missing:
        best = max(range(len(cases)), key=lambda n: (len(wanted[n] & missing), -cases[n].cost, -n))
        chosen.add(best)
        missing -= wanted[best]
    for number in sorted(chosen, key=lambda n: (-cases[n].cost, n)):
        rest = set().union(*(wanted[other] for other in chosen if other != number))
        if wanted[number] <= rest:
            chosen.remove(number)
    return chosen


def _quickest(cases: Sequence[Case]) -> list[set[Hashable]]:
    """What each is to show: all that no quicker one shows. So a machine without a cluster loses a backend, no more."""
    least: dict[Hashable, float] = {}
    for case in cases:
        for one in case.exercises:
            least[one] = min(case.cost, least.get(one, case.cost))
    return [{one for one in case.exercises if case.cost == least[one]} for case in cases]
