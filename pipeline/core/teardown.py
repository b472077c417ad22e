"""How a teardown ended, as a value: apart from the record, because every trial's keeper imports it."""

from typing import Literal

from pipeline.core.values import value


@value
class Teardown:
    """What teardown found at its end. `remaining` is empty when everything is gone."""

    by: Literal["trial", "keeper", "reaper"]
    seconds: float
    remaining: tuple[str, ...]
    error: str | None = None
    removed: tuple[str, ...] = ()  # what the engine has left: its temporary folder, shared memory, semaphores
    unclaimed: tuple[
        str, ...
    ] = ()  # shared memory that appeared meanwhile and is not known to be the trial's: it stays

    @property
    def is_clean(self) -> bool:
        """Whether teardown looked and found nothing left."""
        return not self.remaining and self.error is None
