"""A stand-in engine: answers like llama.cpp's server, fails in the way it is told. Run as a program by runtime=stub."""

import argparse
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

if is_program := __name__ == "__main__":  # perhaps without its own folder on the path, or any package of ours
    sys.path.insert(0, str(Path(__file__).parent))
answers = importlib.import_module("answers" if is_program else "fakes.answers")
NUMBERS = count()
MOST_SLOTS = 16  # what it makes of more, without a word
MOST_BYTES = 2**30  # that it takes where no limit ends it first
FAULTS = (
    *("none", "exit_at_start", "never_ready", "reject_completions", "ignore_term", "leave_session"),
    "orphan",  # a child that nothing but its command line tells of: no parent, no environment, no session of ours
    *("exit_later", "oom_later"),  # after its first completion
)
LEAVE_AN_ORPHAN = (
    "import subprocess, sys; sleep = [sys.executable, '-c', 'import time; time.sleep(600)', *sys.argv[1:]]; "
    "subprocess.Popen(sleep, env={}, start_new_session=True)"
)


def last_word(asked: dict[str, Any]) -> str:
    """Of the prompt, which a completion repeats: right where a word is to be copied, wrong where one is to be found."""
    prompt = asked.get("prompt")
    return (re.findall(r"\w+", prompt) or ["ok"])[-1] if isinstance(prompt, str) else "ok"


class Handler(BaseHTTPRequestHandler):
    """The endpoints the pipeline uses."""

    protocol_version = "HTTP/1.1"
    options = argparse.Namespace()
    end: threading.Timer | None = None

    def do_GET(self) -> None:
        if self.path == "/health":
            loading = self.options.fault == "never_ready"
            self.answer(503 if loading else 200, {"status": "loading" if loading else "ok"})
        elif self.path == "/slots":
            self.answer(200, [{"id": 0, "is_processing": False}])
        elif self.path == "/props":
            self.answer(200, {"total_slots": min(self.options.parallel, MOST_SLOTS), "chat_template": "long"})
        else:
            self.answer(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = os.environ.get("STUB_API_KEY")
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            self.answer(401, {"error": {"message": "Invalid API Key"}})
        elif self.options.fault == "reject_completions" and self.path.startswith("/v1/"):
            self.answer(500, {"error": {"message": "the stub rejects completions"}})
        else:
            if self.end and self.end.ident is None:
                self.end.start()
            self.say(json.loads(body) if body else {})

    def say(self, asked: dict[str, Any]) -> None:
        """Ok, but to who wants log-probabilities: the quality guard."""
        if self.options.answers == "errors" and "logprobs" in asked:
            self.answer(500, {"error": {"message": "the kernel is gone"}})
        elif "logprobs" in asked:
            self.answer(200, answers.chat(asked, self.options.answers, next(NUMBERS)))
        else:
            said = {"message": {"content": "ok"}, "index": 0, "text": f" {last_word(asked)}"}
            self.answer(200, {"choices": [said], "usage": {"completion_tokens": 1}})

    def answer(self, code: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Keep the log for what matters."""


def fill_memory() -> None:
    """Until the kernel ends it."""
    filled = b"x" * MOST_BYTES
    sys.exit(f"error: {len(filled)} bytes were not too much")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("--answers", default="well")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--load-s", type=float, default=0.0)
    parser.add_argument("--exit-after-s", type=float, default=0.3)
    options = Handler.options = parser.parse_args()
    print(f"stub engine {options}", flush=True)
    if options.fault == "exit_at_start":
        sys.exit("error: failed to load model: the stub was told to")
    if options.fault == "ignore_term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.fault == "leave_session":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    if options.fault == "orphan":
        subprocess.run([sys.executable, "-c", LEAVE_AN_ORPHAN, os.path.realpath("/proc/self/fd/1")], check=True)
    time.sleep(options.load_s)
    server = ThreadingHTTPServer((os.environ.get("STUB_HOST", "127.0.0.1"), options.port), Handler)
    if options.fault == "exit_later":
        Handler.end = threading.Timer(options.exit_after_s, os._exit, [7])
    if options.fault == "oom_later":
        Handler.end = threading.Timer(options.exit_after_s, fill_memory)
    server.serve_forever()


if __name__ == "__main__":
    main()
