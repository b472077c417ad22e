"""Looks at something again and again in a thread of its own while a level runs, without disturbing the level.

A look may hang: nobody waits for it. Looks that take long become rare, so that looking takes a small share of the time.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
FIRST_S, INTERVAL_S = 0.25, 1.0  # the first pause; pauses grow up to the interval, so that short levels have samples
GROWTH = 1.5
SHARE = 0.01  # of a core that looks may take, by the CPU time of their thread
WAIT_SHARE = 0.2  # of the time that may be spent in them, waiting for an answer too
MOST = 120  # samples that are kept: then every second one is dropped, and only every second one is taken
LEAVE_S = 0.2  # that the end of a level waits for a look that has begun


class Sampler(Generic[T]):
    """Calls `look` until it is ended. What `look` raises ends it too; None is no sample."""

    def __init__(self, look: Callable[[], T | None], clock: Callable[[], float] = time.monotonic) -> None:
        self.look = look
        self.clock = clock
        self.started_s = clock()
        self.interval_s = INTERVAL_S
        self.looks = 0
        self.samples: list[tuple[float, T]] = []  # seconds since the begin
        self.cpu_s = 0.0  # that looks have taken
        self.waited_s = 0.0  # in looks
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._is_looking = False  # its thread is in a look
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Begin; return at once."""
        self._thread.start()

    def end(self) -> tuple[tuple[float, T], ...]:
        """The samples. A look that does not return is left alone: it ends by its own deadline."""
        with self._lock:
            self._end.set()
            is_looking = self._is_looking
        if self._thread.ident is not None:
            self._thread.join(LEAVE_S if is_looking else None)  # one that pauses wakes, however late
        with self._lock:
            return tuple(self.samples)

    def finish(self) -> tuple[tuple[float, T], ...]:
        """As `end`, with a last look of who calls this, unless an earlier one hangs."""
        self.end()
        if self.samples and not self._thread.is_alive():
            began, found = self.clock(), self.look()
            self.samples += [] if found is None else [(self._when(began), found)]
        return tuple(self.samples)

    @property
    def pause_s(self) -> float:
        """Until the next look: longer where looks are dear."""
        mean_cpu_s, mean_s = (spent / max(1, self.looks) for spent in (self.cpu_s, self.waited_s))
        usual = min(self.interval_s, FIRST_S * GROWTH ** min(self.looks, 50))
        return max(usual, mean_cpu_s / SHARE, mean_s / WAIT_SHARE)

    def _run(self) -> None:
        while not self._end.wait(self.pause_s) and self._begins():
            self.once()
            self._is_looking = False

    def _begins(self) -> bool:
        """Whether another look begins: none does after the end."""
        with self._lock:
            self._is_looking = not self._end.is_set()
            return self._is_looking

    def once(self) -> None:
        """Look, and keep what is seen; a look that ends after the end has not been."""
        began, cpu = self.clock(), time.thread_time()
        found = self.look()
        with self._lock:
            if self._end.is_set():  # it is late, whatever it says: the level is over
                return
            self.looks += 1
            self.cpu_s += time.thread_time() - cpu
            self.waited_s += self.clock() - began
            if found is not None:
                self.samples.append((self._when(began), found))
                self._thin()

    def _when(self, began: float) -> float:
        """The middle of a look that ends now: the first one of a program may take long."""
        return (began + self.clock()) / 2 - self.started_s

    def _thin(self) -> None:
        if len(self.samples) >= MOST:
            del self.samples[1::2]
            self.interval_s *= 2
