"""A stand-in engine that shares memory as SGLang and vLLM do, and leaves as much behind when it is killed.

Its root makes shared memory (`psm_*`) and a semaphore (`sem.mp-*`), a socket and a file in the folder for temporary
files, and a child that uses them. TERM to the root ends the child first, as those engines do; TERM to the child while
the root lives is a crash, and the root says so. `--name NAME`: more shared memory, by a name that is known before.
Source: seen with vLLM 0.32.0 on the CPU; SGLang 0.5.23's words.
"""

import argparse
import json
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.context import SpawnProcess
from multiprocessing.shared_memory import SharedMemory
from multiprocessing.synchronize import Semaphore
from types import FrameType

MEMORY = 1_000_000  # bytes


class Handler(BaseHTTPRequestHandler):
    """Alive, and nothing more."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the log for what matters."""


def work(name: str, gate: Semaphore) -> None:
    """The child: attached to the memory, asleep until it is ended."""
    attached = SharedMemory(name)
    print(f"worker {os.getpid()} uses {attached.name}", flush=True)
    gate.acquire()


def temporary() -> None:
    """What vLLM leaves even after an orderly end."""
    folder = tempfile.gettempdir()
    with open(f"{folder}/vllm_dist_{uuid.uuid4().hex}", "w", encoding="utf-8") as file:  # noqa: PTH123 - as vLLM does
        file.write("rendezvous")
    socket.socket(socket.AF_UNIX).bind(f"{folder}/{uuid.uuid4()}")


def shut_down(worker: SpawnProcess, memory: SharedMemory) -> None:
    """The child first, then what was shared with it."""
    crashed = worker.exitcode
    if crashed is not None:
        print(f"Subprocess worker crashed with exit code {crashed}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)  # and leaves everything
    worker.terminate()
    worker.join()
    memory.close()
    memory.unlink()
    print("Application shutdown complete.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name")
    options = parser.parse_args()
    temporary()
    context = multiprocessing.get_context("spawn")
    memory = SharedMemory(options.name, create=True, size=MEMORY)
    gate = context.Semaphore(0)
    worker = context.Process(target=work, args=(memory.name, gate))
    worker.start()
    ended = threading.Event()

    def end(_signum: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    server = ThreadingHTTPServer((os.environ.get("STUB_HOST", "127.0.0.1"), options.port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"memory": memory.name, "worker": worker.pid}), flush=True)
    ended.wait()
    worker.join(0.5)  # what was ended beside us has ended by now
    shut_down(worker, memory)


if __name__ == "__main__":
    main()
