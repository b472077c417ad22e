"""What a strategy knows of the trials so far. Pure."""

from collections.abc import Mapping

from pydantic import Field

from pipeline.core.errors import BY_SURROUNDINGS
from pipeline.core.values import Scalar, value
from pipeline.sweep.search.space import Params

Resolved = Mapping[str, Scalar]  # what the engine set for a knob that was left to it


@value
class Told:
    """A trial of the study. Without values it has failed, unless it is running."""

    params: Params
    values: tuple[float, ...] = ()  # the objectives, as measured
    is_feasible: bool = True  # inside the SLO
    outside: float | None = None  # outside the SLO: the first objective as a model may be told it
    failure: str | None = None  # its kind
    is_running: bool = False
    resolved: Resolved = Field(default_factory=dict)

    @property
    def is_crash(self) -> bool:
        """Whether it failed because of its configuration."""
        is_failed = not self.is_running and not self.values
        return is_failed and self.failure is not None and self.failure not in BY_SURROUNDINGS
