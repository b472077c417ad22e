"""What the sweeper `tuner` asks of a launcher: a new trial whenever a slot is free, instead of batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from hydra.core.utils import JobReturn

Job = tuple[int, Sequence[str]]  # a trial's number and its overrides
Told = Callable[[int, JobReturn], None]


@runtime_checkable
class Streaming(Protocol):
    """A launcher that can stream. Others are given batches, and the slowest trial of each holds up the rest."""

    @property
    def slots(self) -> int:
        """Trials at once."""

    def stream(self, jobs: Iterator[Job], told: Told) -> None:
        """Run every job; the next one is taken only when it can start, `told` is called as soon as one has ended.

        Raises:
            Interrupted: a signal came. Every trial that ran has been torn down.
        """
