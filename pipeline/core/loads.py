"""The load of a level: so many users at a time, or so many requests per second; in numbers and in words. Pure."""

import re

from pipeline.core.values import value

_END = re.compile(r" (?:x(?P<users>\d+)|at (?P<rate>\S+) requests/s)$")
_RATE_FOLDER = "-requests-per-s"


@value
class AtLoad:
    """A scenario under a load."""

    scenario: str
    concurrency: int  # users at a time; 0: requests are sent at a rate
    rate: float | None = None  # requests per second, whatever is still open

    @property
    def demand(self) -> float:
        """The number by which levels of a scenario are in order."""
        return self.concurrency if self.rate is None else self.rate

    @property
    def name(self) -> str:
        """E.g. `D(64,16) x4` or `D(64,16) at 8 requests/s`."""
        return f"{self.scenario} {words(self)}"

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return str(self.concurrency) if self.rate is None else f"{self.rate:g}{_RATE_FOLDER}"


def words(level: AtLoad) -> str:
    """The load alone: `x4` or `at 8 requests/s`."""
    return f"x{level.concurrency}" if level.rate is None else f"at {level.rate:g} requests/s"


def scenario_of(name: str) -> str:
    """The scenario of a level's name."""
    return _END.sub("", name)


def is_rate(name: str) -> bool:
    """Whether requests are sent at a rate in the level of that name."""
    found = _END.search(name)
    return bool(found and found["rate"])


def demand_of(name: str) -> float:
    """The demand of a level's name; 0 where it names none."""
    found = _END.search(name)
    return float(found["users"] or found["rate"]) if found else 0.0


def of_folder(name: str) -> float | None:
    """The demand of the level whose folder has this name; None for another folder."""
    number = name.removesuffix(_RATE_FOLDER)
    if number == name:
        return int(name) if name.isdigit() else None
    return float(number)
