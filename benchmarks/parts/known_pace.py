"""An OpenAI-like server whose pace is known, cheap enough to share two cores with a load generator; tells its own lag.

A first token after `ttft_s`, then one every `token_s`, whatever the number of users; with `slots` so many at a time,
while others wait. One thread and one epoll; answers
are prepared, and a request is read for nothing but its number of tokens. `GET /lag` tells how late it was itself: what
a load generator measures beyond that is its own.
"""

import argparse
import heapq
import json
import re
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
TOKENS = re.compile(rb'"max_(?:completion_)?tokens": *(\d+)')
PROMPT_TOKENS = 24


def chunk(data: bytes) -> bytes:
    """As chunked transfer has it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(body: object) -> bytes:
    """A chunk with one event."""
    return chunk(b"data: " + (body if isinstance(body, bytes) else json.dumps(body).encode()) + b"\n\n")


def token(finish: str | None) -> bytes:
    """A token of one word, as vLLM would send it."""
    choice = {"index": 0, "delta": {"content": " day"}, "logprobs": None, "finish_reason": finish}
    return event({"id": "chatcmpl-0", "object": "chat.completion.chunk", "model": "tiny", "choices": [choice]})


NEXT, LAST = token(None), token("length")


def end(tokens: int) -> bytes:
    """What comes after the last token."""
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}
    return event({"choices": [], "usage": usage}) + event(b"[DONE]") + b"0\r\n\r\n"


def answer(body: object) -> bytes:
    """One that is no stream."""
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)


@dataclass(eq=False)
class Client:
    """A connection, and the answer that it is given."""

    sock: socket.socket
    coming: bytes = b""
    left: int = 0  # tokens of the answer
    tokens: int = 0
    is_begun: bool = False


@dataclass
class Server:
    """Serves until it is killed."""

    listener: socket.socket
    ttft_s: float
    token_s: float
    slots: int = 0  # 0: any number
    busy: int = 0
    waiting: deque["Client"] = field(default_factory=deque)
    clients: dict[int, Client] = field(default_factory=dict)
    due: list[tuple[float, int, Client]] = field(default_factory=list)  # when, in which order, for whom
    lags: deque[float] = field(default_factory=lambda: deque(maxlen=500_000))
    count: int = 0

    def serve(self) -> None:
        """Until killed."""
        poll = select.epoll()
        poll.register(self.listener.fileno(), select.EPOLLIN)
        while True:
            now = time.monotonic()
            wait = min(max(self.due[0][0] - now, 0.0), 0.5) if self.due else 0.5
            for file, _ in poll.poll(wait):
                if file == self.listener.fileno():
                    self.accept(poll)
                else:
                    self.read(file)
            self.send_due()

    def accept(self, poll: select.epoll) -> None:
        """All that want to connect."""
        with suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.clients[sock.fileno()] = Client(sock)
                poll.register(sock.fileno(), select.EPOLLIN)

    def read(self, file: int) -> None:
        """What one has sent; a whole request is taken."""
        client = self.clients[file]
        try:
            data = client.sock.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(file)
            return
        client.coming += data
        head, found, body = client.coming.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n")
        if found and len(body) >= (size := int(length[1]) if length else 0):
            client.coming = body[size:]
            self.take(file, client, head, body[:size])

    def take(self, file: int, client: Client, head: bytes, body: bytes) -> None:
        """Answer a request, or plan its first token."""
        if head.startswith(b"GET /lag"):
            self.write(file, answer(self.lag()))
        elif head.startswith(b"GET"):
            self.write(file, answer({"status": "ok", "object": "list", "data": [{"id": "tiny", "object": "model"}]}))
        elif b'"stream": true' not in body and b'"stream":true' not in body:
            message = {"message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
            self.write(file, answer({"choices": [message], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}))
        else:
            asked = TOKENS.search(body)
            client.left = client.tokens = int(asked[1]) if asked else 16
            client.is_begun = False
            self.waiting.append(client)
            self.begin_waiting()

    def begin_waiting(self) -> None:
        """Serve who waits, as far as there are slots."""
        while self.waiting and (not self.slots or self.busy < self.slots):
            client = self.waiting.popleft()
            if client.sock.fileno() >= 0:
                self.busy += 1
                self.plan(time.monotonic() + self.ttft_s, client)

    def end_one(self) -> None:
        """A slot is free."""
        self.busy -= 1
        self.begin_waiting()

    def plan(self, at_s: float, client: Client) -> None:
        """A token is due."""
        self.count += 1
        heapq.heappush(self.due, (at_s, self.count, client))

    def send_due(self) -> None:
        """Send what is due; a server that is late says so, and keeps its pace from the time that was due."""
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            at_s, _, client = heapq.heappop(self.due)
            file = client.sock.fileno()
            if file < 0:
                self.end_one()
                continue  # it is gone
            self.lags.append(now - at_s)
            client.left -= 1
            data = NEXT if client.left else LAST + end(client.tokens)
            if not client.is_begun:
                client.is_begun, data = True, HEAD + data
            self.write(file, data)
            if client.left:
                self.plan(at_s + self.token_s, client)
            else:
                self.end_one()
            now = time.monotonic()

    def write(self, file: int, data: bytes) -> None:
        """A reader so slow that its buffer is full is not served any more."""
        try:
            if self.clients[file].sock.send(data) < len(data):
                self.drop(file)
        except OSError:
            self.drop(file)

    def drop(self, file: int) -> None:
        """One is gone."""
        if client := self.clients.pop(file, None):
            client.sock.close()

    def lag(self) -> dict[str, float]:
        """How late the tokens since the last question were, in seconds, and what serving took of a core in all."""
        late = sorted(self.lags) or [0.0]
        self.lags.clear()
        marks = {"p50_s": 0.5, "p95_s": 0.95, "p99_s": 0.99, "max_s": 1.0}
        told = {name: late[int(share * (len(late) - 1))] for name, share in marks.items()}
        return {**told, "mean_s": sum(late) / len(late), "tokens": len(late), "cpu_s": time.process_time()}


@contextmanager
def served(*, ttft_s: float, token_s: float) -> Iterator[str]:
    """The server, in a process of its own: its URL."""
    argv = [sys.executable, __file__, "--ttft-s", str(ttft_s), "--token-s", str(token_s)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline() if server.stdout else 0)}"
        finally:
            server.kill()


def main() -> None:
    """Serve on the port given; 0 takes a free one. Prints the port."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft-s", type=float, default=0.04)
    parser.add_argument("--token-s", type=float, default=0.02)
    parser.add_argument("--slots", type=int, default=0, help="requests that are served at a time; 0: any number")
    given = parser.parse_args()
    with socket.create_server(("127.0.0.1", given.port), backlog=4096) as listener:
        listener.setblocking(False)
        print(listener.getsockname()[1], flush=True)
        Server(listener, given.ttft_s, given.token_s, given.slots).serve()


if __name__ == "__main__":
    main()
