"""Keeps what has come of the answers, and parses it when there is time. Standard library only."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pipeline.bench.causes import cause_of
from pipeline.bench.connection import Connection
from pipeline.bench.stream import Refused, Unreadable
from pipeline.bench.watcher import Request, Watcher
from pipeline.bench.wire import Prepared, Response

SLICE = 64  # pieces that are parsed before the next look whether something has come
MOST_KEPT = 200_000  # pieces; more are parsed even while something is to be read

Piece = tuple[bytes, float | None, float, float, float]  # data, when it came and when it was read, busy before, shift


@dataclass(eq=False)
class Exchange:
    """A request and what has come of its answer."""

    request: Request
    prepared: Prepared
    response: Response
    user: "User | None"  # who waits for it
    pieces: deque[Piece] = field(default_factory=deque)  # not yet parsed
    before: bytes = b""  # the last bytes of the piece before
    is_plain: bool = False  # whether its end can be seen without parsing it
    is_heard: bool = False  # something of it has come
    is_reused: bool = False  # its connection was open before
    is_over: bool = False  # nothing more will come
    is_queued: bool = False
    is_broken: bool = False  # the connection ended
    is_sent_again: bool = False


@dataclass(eq=False)
class User:
    """Sends one request after the other."""

    connection: Connection | None = None
    exchange: Exchange | None = None
    free_s: float | None = None  # since when it may send the next one; None: it has sent one, or none at all
    trailing_s: float | None = None  # since when the end of the stream is awaited, after [DONE]
    due_s: float | None = None  # when its request was to be sent; None: as soon as it may
    is_held: bool = False  # it was not sent then, because too many were open


@dataclass
class Reader:
    """The answers of one worker. `let_go` is told of each that needs no more: its user may send again."""

    watcher: Watcher
    let_go: Callable[[Exchange], None]
    todo: deque[Exchange] = field(default_factory=deque)
    kept: int = 0  # pieces that are not parsed

    def keep(self, exchange: Exchange, piece: Piece) -> None:
        """Something has come."""
        exchange.pieces.append(piece)
        self.kept += 1

    @property
    def is_full(self) -> bool:
        """Whether so much is kept that some must be parsed at once."""
        return self.kept > MOST_KEPT

    def queue(self, exchange: Exchange) -> None:
        """Parse it later."""
        if not exchange.is_queued:
            exchange.is_queued = True
            self.todo.append(exchange)

    def end(self, exchanges: Iterable[Exchange]) -> None:
        """Parse all that has come, of these too."""
        for each in exchanges:
            self.queue(each)
        while self.todo:
            self.parse_some()

    def parse_some(self) -> None:
        """Parse a little of what has waited longest."""
        exchange = self.todo.popleft()
        exchange.is_queued = False
        self.parse(exchange, SLICE)
        if exchange.pieces:
            self.queue(exchange)

    def parse(self, exchange: Exchange, most: int) -> None:
        """Parse some of its pieces; judge it when there will be no more."""
        request, pieces = exchange.request, exchange.pieces
        if request.number not in self.watcher.open:
            return
        try:
            for _ in range(min(most, len(pieces))):
                self._take(exchange, pieces.popleft())
            if not pieces:
                self._judge(exchange)
        except Refused as error:
            self._end(exchange, "failed", error.cause, str(error))
        except Unreadable as error:
            self._end(exchange, "unreadable", "unreadable", str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the request must not vanish
            self._end(exchange, *cause_of(error))

    def _take(self, exchange: Exchange, piece: Piece) -> None:
        """Parse a piece with the time when it came; note how late we read it, and how wrong that makes it."""
        request, (data, came_s, read_s, busy_s, shift_s) = exchange.request, piece
        self.kept -= 1
        at_s = read_s if came_s is None else min(max(came_s - shift_s, request.began_s), read_s)
        lag_s = max(read_s - at_s, busy_s)
        request.lag_s = max(request.lag_s, lag_s)
        self.watcher.lags.add(lag_s)
        texts = len(request.answer.times)
        exchange.response.feed(data, at_s)
        first = len(request.answer.times) if not texts else 0  # pieces of text that came with the first one
        if came_s is None or first:
            self.watcher.unsure.add(lag_s if came_s is None or first > 1 else 0.0)  # the kernel notes the last packet

    def _judge(self, exchange: Exchange) -> None:
        """Say what became of it, if it has come to its end."""
        response, request = exchange.response, exchange.request
        if exchange.is_broken and not response.end():
            self._end(exchange, "failed", "connection_broken", "the connection broke: the answer ended early")
        elif exchange.is_over or response.is_complete or request.answer.is_done:
            request.answer.end()
            self.watcher.answered(request, request.heard_s)
            self.let_go(exchange)

    def _end(self, exchange: Exchange, how: str, cause: str, words: str) -> None:
        """It failed, whatever else may come."""
        self.kept -= len(exchange.pieces)
        exchange.pieces.clear()
        self.watcher.failure(exchange.request, how, cause, words, exchange.request.heard_s)
        self.let_go(exchange)
