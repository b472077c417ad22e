"""A connection to the server that is read and written without waiting, and tells when its bytes came.

On Linux the kernel notes when a packet came (SO_TIMESTAMPNS, https://docs.kernel.org/networking/timestamping.html), so
that an answer which waited for us is not told as a slow one. Standard library only. The names below are taken before
genai-bench lets gevent replace them.
"""

import errno
import os
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

ONE_READ = 16384
SHARP_S = 2e-5  # two looks at a clock that are further apart were interrupted
STAMPED = 35 if sys.platform == "linux" else None  # SO_TIMESTAMPNS, asm-generic/socket.h
STAMP = struct.Struct("qq")  # struct timespec of a 64-bit kernel
ANCILLARY = socket.CMSG_SPACE(STAMP.size)
IN, OUT, GONE = select.POLLIN, select.POLLOUT, select.POLLERR | select.POLLHUP
BEGUN = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)

_Socket, _resolve, _poll, _epoll = socket.socket, socket.getaddrinfo, select.poll, getattr(select, "epoll", None)


@dataclass(frozen=True)
class Server:
    """Where to connect to."""

    family: int
    address: Any
    name: str
    context: ssl.SSLContext | None = None  # for https


def server(url: str) -> Server:
    """The first address of the server of `url`.

    Raises:
        OSError: its name cannot be resolved.
    """
    parts = urlsplit(url)
    name = parts.hostname or ""
    family, _, _, _, address = _resolve(name, _port(parts), 0, socket.SOCK_STREAM)[0]
    return Server(family, address, name, _context() if parts.scheme == "https" else None)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _context() -> ssl.SSLContext:
    """Trusts what the library `requests` would."""
    given = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if given and os.path.isdir(given):  # noqa: PTH112 - a name from the environment
        return ssl.create_default_context(capath=given)
    from certifi import where

    return ssl.create_default_context(cafile=given or where())


class Poll:
    """epoll, or poll where there is none."""

    def __init__(self) -> None:
        self.poll: Any = _epoll() if _epoll else _poll()
        self.unit = 1 if _epoll else 1000  # of its timeouts, per second

    def watch(self, connection: "Connection") -> None:
        """From now on, for what is to be read; while it is opened, for whether it is open."""
        self.poll.register(connection.fd, IN | OUT)

    def wants(self, connection: "Connection") -> None:
        """Whether there is something to be written is now known."""
        self.poll.modify(connection.fd, IN | (OUT if connection.out else 0))

    def forget(self, connection: "Connection") -> None:
        """No more."""
        with suppress(OSError, KeyError, ValueError):
            self.poll.unregister(connection.fd)

    def wait(self, timeout_s: float) -> list[tuple[int, int]]:
        """(file, what) of all that is ready, after `timeout_s` at the latest."""
        ready: list[tuple[int, int]] = self.poll.poll(timeout_s * self.unit)
        return ready

    def close(self) -> None:
        """Let it go."""
        if hasattr(self.poll, "close"):
            self.poll.close()


class Connection:
    """One, being opened."""

    def __init__(self, to: Server) -> None:
        """Begin to open it. Raises OSError."""
        self.out = b""
        self.is_open = False
        self.sock = _Socket(to.family, socket.SOCK_STREAM)
        self.fd = self.sock.fileno()
        try:
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if STAMPED:
                with suppress(OSError):
                    self.sock.setsockopt(socket.SOL_SOCKET, STAMPED, 1)
            _raise(self.sock.connect_ex(to.address), *BEGUN)
        except OSError:
            self.sock.close()
            raise

    def opened(self) -> bool:
        """It can be written: whether it is open now. Raises OSError."""
        _raise(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        self.is_open = True
        return True

    def write(self, data: bytes) -> None:
        """As much as can be written now; `out` is what is left. Raises OSError."""
        self.out += data
        self.flush()

    def flush(self) -> None:
        """Write what is left. Raises OSError."""
        with suppress(BlockingIOError):
            while self.out:
                self.out = self.out[self.sock.send(self.out) :]

    def read(self) -> tuple[bytes | None, float | None]:
        """(what has come, when by the kernel's clock); b"" at the end, None for nothing yet. Raises OSError."""
        try:
            data, ancillary, _, _ = self.sock.recvmsg(ONE_READ, ANCILLARY)
        except BlockingIOError:
            return None, None
        return data, _stamp(ancillary)

    def close(self) -> None:
        """Close it."""
        self.sock.close()


def _raise(code: int, *others: int) -> None:
    if code and code not in others:
        raise OSError(code, os.strerror(code))


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> float | None:
    for _, kind, data in ancillary:
        if kind == STAMPED and len(data) == STAMP.size:
            seconds, nanoseconds = STAMP.unpack(data)
            return float(seconds + nanoseconds * 1e-9)
    return None


class Encrypted(Connection):
    """The same for https."""

    def __init__(self, to: Server, context: ssl.SSLContext) -> None:
        """Begin to open it. Raises OSError."""
        super().__init__(to)
        self.coming, self.going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.coming, self.going, server_hostname=to.name)

    def opened(self) -> bool:
        """Go on with the handshake: whether it is done. Raises OSError."""
        super().opened()
        self.is_open = False
        data, _ = super().read()
        if data == b"":
            raise ConnectionResetError(errno.ECONNRESET, "closed during the TLS handshake")
        self.coming.write(data or b"")
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            self.is_open = True
        self._pass_on()
        return self.is_open

    def write(self, data: bytes) -> None:
        """As much as can be written now. Raises OSError."""
        self.tls.write(data)
        self._pass_on()

    def read(self) -> tuple[bytes | None, float | None]:
        """As for one that is not encrypted. Raises OSError."""
        data, stamp = super().read()
        if not data:
            return data, stamp
        self.coming.write(data)
        found = []
        try:
            while part := self.tls.read(ONE_READ):
                found.append(part)
        except ssl.SSLWantReadError:
            return b"".join(found) or None, stamp
        return b"".join(found), stamp

    def _pass_on(self) -> None:
        self.out += self.going.read()
        self.flush()


def connect(to: Server) -> Connection:
    """Begin to open a connection. Raises OSError."""
    return Encrypted(to, to.context) if to.context else Connection(to)


def stamping() -> socket.socket:
    """While it is open, the kernel notes when packets come: it begins only a while after the first who wants that."""
    made = _Socket(socket.AF_INET, socket.SOCK_DGRAM)
    if STAMPED:
        with suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, STAMPED, 1)
    return made


def shift(clock: Callable[[], float], known_s: float = 0.0, *, tries: int = 10) -> float:
    """How much the time of day, which the kernel notes, is ahead of `clock`; `known_s` where we were interrupted."""
    for _ in range(tries):
        before, now, after = clock(), time.time(), clock()
        if after - before < SHARP_S or not known_s:
            known_s = now - (before + after) / 2
    return known_s
