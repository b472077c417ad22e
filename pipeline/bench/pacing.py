"""Who sends the next request, and when: users that wait for their answers, or a schedule that waits for nobody.

Standard library only.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from pipeline.bench.reading import User

SENT_AT_ONCE = 64  # requests, before the next look whether something has come
OPENED_AHEAD = 32  # connections of an open loop; more are opened when they are needed


class Pace(Protocol):
    """`ready` are the users without an open request; who is to send is taken from them."""

    users: list[User]
    ready: deque[User]

    def begin(self, at_s: float) -> None:
        """The level begins."""

    def wait_s(self, now: float, most: float) -> float:
        """How long nothing is to be sent."""

    def due(self, now: float) -> Iterator[User]:
        """Those who send now."""


class Closed:
    """Every user has one request open at a time, until the level is over."""

    def __init__(self, users: int) -> None:
        self.users = [User() for _ in range(users)]
        self.ready: deque[User] = deque()

    def begin(self, at_s: float) -> None:
        """All may send."""
        self.ready.extend(self.users)

    def wait_s(self, now: float, most: float) -> float:
        """Nobody who may send waits."""
        return 0.0 if self.ready else most

    def due(self, now: float) -> Iterator[User]:
        """Some of those who may."""
        for _ in range(min(len(self.ready), SENT_AT_ONCE)):
            yield self.ready.popleft()


class Open:
    """Requests are sent at their times. A user is a connection here: there are as many as requests are open at once."""

    def __init__(self, times: Sequence[float], max_in_flight: int | None = None) -> None:
        """`times`: seconds since the level's beginning, rising. `max_in_flight`: more wait for one that ends."""
        self.times, self.most = times, max_in_flight or len(times)
        self.users = [User() for _ in range(min(OPENED_AHEAD, len(times), self.most))]
        self.ready: deque[User] = deque(self.users)
        self.next = 0
        self.held_s = 0.0  # when last one had to wait for one that ends
        self.began_s = math.inf

    def begin(self, at_s: float) -> None:
        """The schedule begins."""
        self.began_s = at_s

    def wait_s(self, now: float, most: float) -> float:
        """Until the next one is due; one that must wait for an answer is not waited for."""
        if self.next >= len(self.times) or not self._has_room:
            return most
        return min(most, max(0.0, self.began_s + self.times[self.next] - now))

    def due(self, now: float) -> Iterator[User]:
        """One for each that is due, with the time at which it was, on a connection that is open if there is one."""
        for _ in range(SENT_AT_ONCE):
            if self.next >= len(self.times) or (due_s := self.began_s + self.times[self.next]) > now:
                return
            if not self._has_room:
                self.held_s = now
                return
            user = self._user()
            user.due_s, user.is_held, user.free_s = due_s, due_s <= self.held_s, None
            self.next += 1
            yield user

    @property
    def _has_room(self) -> bool:
        return bool(self.ready) or len(self.users) < self.most

    def _user(self) -> User:
        """The one that was busy last: its connection is the least likely to have been closed."""
        if self.ready:
            return self.ready.pop()
        self.users.append(User())
        return self.users[-1]
