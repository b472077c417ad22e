"""Sends the requests of one worker at the pace that it is given (pacing.py), until the level is over.

One thread and one poll. What is read is kept with its time and parsed when there is nothing to read or to send, so that
no user's clock runs while another's answer is parsed. Connections are opened before the level and kept, where the
server does so (keeping.py). The end of an answer is seen from its last bytes (wire.py). Standard library only.
"""

from collections import deque
from collections.abc import Callable, Iterator

from pipeline.bench import connection as connections
from pipeline.bench.causes import cause_of
from pipeline.bench.connection import GONE, IN, OUT, Connection, Poll, Server, shift
from pipeline.bench.pacing import Pace
from pipeline.bench.reading import SLICE, Exchange, Reader, User
from pipeline.bench.watcher import Watcher
from pipeline.bench.wire import Prepared, Response, is_done, is_last, is_plain

TICK_S = 0.02  # how often it is looked whether a server is silent, and whether the level is over
DONE_S = 0.1  # that a whole answer waits for [DONE], or for an error after all
TRAILING_S = 0.005  # that a user waits after [DONE] for the end of the stream; then a new connection is opened
OPENED_AT_ONCE = 64  # connections, before the level: some servers have short queues
OPEN_S = 5.0  # that the level waits for them
RESENT = 3  # requests that a kept connection lost: then connections are not kept any more
BLOCKED_S = 0.0002  # a poll that took longer has waited


class Loop:
    """The users of one worker. `end` says what the level's time is: until then requests begin."""

    def __init__(
        self,
        watcher: Watcher,
        prompts: Iterator[Prepared],
        pace: Pace,
        locate: Callable[[], Server],
        *,
        keeps: bool = True,
    ) -> None:
        """`locate` finds the server; `keeps`: it keeps connections, so that they can be opened before."""
        self.watcher, self.prompts, self.locate, self.keeps = watcher, prompts, locate, keeps
        self.pace, self.users, self.ready = pace, pace.users, pace.ready
        self.clock = watcher.clock
        self.poll = Poll()
        self.by_file: dict[int, User] = {}
        self.trailing: deque[User] = deque()
        self.reader = Reader(watcher, self._let_go)
        self.server: Server | None = None
        self.busy_s = 0.0  # how long the last turn took: so long something may have been there
        self.shift_s = shift(self.clock)  # of the kernel's clock against ours

    def open_ahead(self) -> None:
        """Open every user's connection; one that cannot be opened is tried again with the user's first request."""
        waiting, end = deque(each for each in self.users if self.keeps and not each.connection), self.clock() + OPEN_S
        while self.clock() < end and (waiting or self._opening()):
            while waiting and self._opening() < OPENED_AT_ONCE:
                try:
                    self._connect(waiting.popleft())
                except OSError:
                    waiting.clear()
            self._turn(TICK_S)

    def run(self, max_time_s: float) -> None:
        """Send until the level is over, then wait for what is open.

        Nothing begins `max_time_s` after the watcher's start; what is open then has the watcher's `drain_s`.
        """
        watcher, clock = self.watcher, self.clock
        watcher.start()
        end = watcher.started_s + max_time_s
        self.pace.begin(watcher.started_s)
        self._until(lambda: watcher.is_over or clock() >= end)
        watcher.is_closing, end = True, clock() + watcher.drain_s
        self._until(lambda: not watcher.open or watcher.is_hopeless or clock() >= end)
        self.reader.end(user.exchange for user in self.users if user.exchange)

    def close(self) -> None:
        """Close every connection."""
        for user in self.users:
            self._drop(user)
        self.poll.close()

    def _until(self, is_over: Callable[[], bool]) -> None:
        next_s = 0.0
        while True:
            now = self.clock()
            if now >= next_s:
                next_s = now + TICK_S
                if is_over():
                    return
                self._look_at_silent(now)
                self.shift_s = shift(self.clock, self.shift_s, tries=1)
            self._turn(min(max(next_s - now, 0.0), TRAILING_S if self.trailing else TICK_S))

    def _turn(self, timeout_s: float) -> None:
        """Read and send what can be; if there is nothing, parse."""
        start = self.clock()
        events = self.poll.wait(0.0 if self.reader.todo else self.pace.wait_s(start, timeout_s))
        woken = self.clock()
        if woken - start > BLOCKED_S:
            self.busy_s = 0.0  # nothing was there before
        for file, what in events:
            if user := self.by_file.get(file):
                self._on_event(user, what)
        for user in self.pace.due(woken):
            self._next(user)
        if self.trailing:
            self._end_trailing(woken)
        if self.reader.todo and (not events or self.reader.is_full):
            self.reader.parse_some()
        self.busy_s = self.clock() - woken

    def _on_event(self, user: User, what: int) -> None:
        connection = user.connection
        if connection is None:
            return
        try:
            if not connection.is_open:
                self._on_opened(user, connection)
                return
            if what & OUT:
                connection.flush()
                self.poll.wants(connection)
            if what & (IN | GONE):
                self._read(user, connection)
        except OSError as error:
            self._fail(user, error)

    def _on_opened(self, user: User, connection: Connection) -> None:
        connection.opened()
        self.poll.wants(connection)
        if connection.is_open and user.exchange:
            self._send(user, connection, user.exchange)

    def _read(self, user: User, connection: Connection) -> None:
        data, came_s = connection.read()
        if data is None:
            return
        exchange = user.exchange
        if exchange is None:
            self._read_between(user, data)
            return
        now = self.clock()
        if not data:
            self._end_of_connection(user, exchange, now)
            return
        self.reader.keep(exchange, (data, came_s, now, self.busy_s, self.shift_s))
        exchange.request.heard_s = now
        self._see_end(user, exchange, data)

    def _see_end(self, user: User, exchange: Exchange, data: bytes) -> None:
        if not exchange.is_heard:
            exchange.is_heard, exchange.is_plain = True, is_plain(data)
        if not exchange.is_plain:
            self.reader.parse(exchange, len(exchange.pieces))
            return
        is_end = is_last(data, exchange.before)
        exchange.before = data[-2:]
        if is_end or is_done(data):
            exchange.is_over = True
            self._finish(user, exchange, exchange.request.heard_s, trails=not is_end)
        elif len(exchange.pieces) >= SLICE:
            self.reader.queue(exchange)

    def _finish(self, user: User, exchange: Exchange, now: float, *, trails: bool = False) -> None:
        """The answer is there: the user may send again, and the answer is parsed later, if one was good so far."""
        user.exchange, user.free_s, exchange.user = None, now, None
        if self.watcher.tally.failed == self.watcher.tally.ended:
            self.reader.parse(exchange, len(exchange.pieces))
        else:
            self.reader.queue(exchange)
        if not self.keeps:
            self._drop(user)
        if trails and user.connection:
            user.trailing_s = now
            self.trailing.append(user)
        else:
            self.ready.append(user)

    def _read_between(self, user: User, data: bytes) -> None:
        """What comes while no request is open: the end of the stream, or of the connection."""
        if not data or user.trailing_s is None:
            self._drop(user)
        if user.trailing_s is not None and (not data or is_last(data, b"\r\n")):
            self._stop_trailing(user)

    def _end_trailing(self, now: float) -> None:
        while self.trailing and (self.trailing[0].trailing_s or 0.0) + TRAILING_S <= now:
            self._drop(self.trailing[0])
            self._stop_trailing(self.trailing[0])

    def _stop_trailing(self, user: User) -> None:
        self.trailing.remove(user)
        user.trailing_s = None
        self.ready.append(user)

    def _next(self, user: User) -> None:
        """Send the user's next request, if there is to be one."""
        if not self.watcher.admits:
            return
        prepared = next(self.prompts)
        request = self.watcher.begin(prepared, user.due_s, is_held=user.is_held)
        user.exchange = Exchange(request, prepared, Response(request.answer), user)
        self._begin(user, user.exchange)

    def _begin(self, user: User, exchange: Exchange) -> None:
        try:
            if user.connection is None:
                self._connect(user)
            elif user.connection.is_open:
                exchange.is_reused = True
                self._send(user, user.connection, exchange)
        except OSError as error:
            self._fail(user, error)

    def _end_of_connection(self, user: User, exchange: Exchange, now: float) -> None:
        self._drop(user)
        if self._is_sent_again(user, exchange):
            return
        exchange.is_over = exchange.is_broken = True
        exchange.request.heard_s = now
        self._finish(user, exchange, now)

    def _is_sent_again(self, user: User, exchange: Exchange) -> bool:
        """A server may close a kept connection at any time: what was not answered at all is sent once more."""
        if exchange.is_heard or not exchange.is_reused or exchange.is_sent_again:
            return False
        exchange.is_sent_again, exchange.is_reused = True, False
        self.watcher.resent += 1
        self.keeps = self.keeps and self.watcher.resent < RESENT
        self._begin(user, exchange)
        return True

    def _send(self, user: User, connection: Connection, exchange: Exchange) -> None:
        """The clock starts when its first byte is written."""
        now = self.clock()
        connection.write(exchange.prepared.data)
        self.watcher.sent(exchange.request, now)
        if user.free_s is not None:
            self.watcher.waited_s += max(0.0, now - user.free_s)
            user.free_s = None
        if connection.out:
            self.poll.wants(connection)

    def _connect(self, user: User) -> None:
        if self.server is None:
            self.server = self.locate()
        user.connection = connections.connect(self.server)
        self.by_file[user.connection.fd] = user
        self.poll.watch(user.connection)

    def _opening(self) -> int:
        return sum(not each.connection.is_open for each in self.users if each.connection)

    def _drop(self, user: User) -> None:
        """Close the user's connection."""
        if connection := user.connection:
            user.connection = None
            self.poll.forget(connection)
            del self.by_file[connection.fd]
            connection.close()

    def _fail(self, user: User, error: Exception) -> None:
        """The connection failed, and with it the request, if there is one."""
        self._drop(user)
        exchange = user.exchange
        if exchange is None:
            if user.trailing_s is not None:
                self._stop_trailing(user)
            return
        if isinstance(error, ConnectionError) and self._is_sent_again(user, exchange):
            return
        self.reader.parse(exchange, len(exchange.pieces))
        if exchange.request.number in self.watcher.open:
            exchange.is_over = True
            self.watcher.failure(exchange.request, *cause_of(error))
        self._let_go(exchange)

    def _look_at_silent(self, now: float) -> None:
        """Parse what is there of answers to which nothing is added any more; where only [DONE] is missing, end it."""
        for user in self.users:
            exchange = user.exchange
            if exchange is None or now - exchange.request.heard_s < DONE_S:
                continue
            if exchange.pieces:
                self.reader.parse(exchange, len(exchange.pieces))
            if user.exchange is exchange and exchange.request.answer.is_whole:
                self._drop(user)
                exchange.is_over = True
                self._finish(user, exchange, now)

    def _let_go(self, exchange: Exchange) -> None:
        """If its user still waits for it: send the next one, on the same connection where that can be."""
        if (user := exchange.user) is None:
            return
        user.exchange, user.free_s, exchange.user = None, self.clock(), None
        if not (self.keeps and exchange.response.is_complete and exchange.response.is_kept):
            self._drop(user)
        self.ready.append(user)
