"""The command `catalogues`: where it writes, what it fetches, and what it says of a newer release."""

import hashlib
import json
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from pipeline import catalogues
from pipeline.core.values import load
from pipeline.engines import catalogue
from pipeline.engines.catalogue import Catalogue

FLAGS = "\n".join(f'        parser.add_argument("--filler-{n}", type=int, default={n})' for n in range(100))
SOURCE = f"""
class ServerArgs:
    @staticmethod
    def add_cli_args(parser):
{FLAGS}

def prepare_server_args(argv):
    parser = argparse.ArgumentParser()
"""
PADDING = 3 << 20


def wheel() -> bytes:
    """A wheel with a source file and something large that nobody wants."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sglang/kernels.so", bytes(PADDING))
        archive.writestr("sglang/srt/server_args.py", SOURCE)
    return file.getvalue()


class Index(ThreadingHTTPServer):
    """A package index with one release, that sends parts of files."""

    def __init__(self, version: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.wheel = wheel()
        self.name = f"sglang-{version}-py3-none-any.whl"
        self.sent = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def page(self) -> bytes:
        told = {"filename": self.name, "url": f"{self.url}/{self.name}", "hashes": {"sha256": "0" * 64}}
        return json.dumps({"files": [told]}).encode()


class Answer(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        if self.path == "/sglang/":
            self._send(200, self.server.page(), {})
            return
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())  # type: ignore[union-attr]
        body, total = self.server.wheel[first : last + 1], len(self.server.wheel)
        self.server.sent += len(body)
        self._send(206, body, {"Content-Range": f"bytes {first}-{first + len(body) - 1}/{total}"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def index(request: pytest.FixtureRequest) -> Iterator[Index]:
    with Index(request.param) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("index", ["99.0"], indirect=True)
def test_only_what_is_read_of_a_wheel_is_fetched(index: Index, tmp_path: Path) -> None:
    assert catalogues.main(["sglang==99.0", "--index", index.url, "--to", str(tmp_path)]) == 0
    assert len(load(Catalogue, tmp_path / "sglang" / "99.0.json").flags) == 100
    assert index.sent < PADDING


@pytest.mark.parametrize("index", ["99.0"], indirect=True)
def test_check_says_what_a_newer_release_changes_and_writes_nothing(index: Index, capsys: Any) -> None:
    newest = catalogue.versions("sglang")[-1]
    assert catalogues.main(["sglang", "--check", "--index", index.url]) == 1
    told = capsys.readouterr().out
    assert told.startswith(f"sglang: 99.0 is out, the newest catalogue is of {newest}; it changes ")
    assert "  + --filler-7 (int, default 7)\n" in told
    assert "  - --page-size\n" in told
    assert catalogue.versions("sglang")[-1] == newest


@pytest.mark.parametrize("index", ["0.5.1"], indirect=True)
def test_check_is_content_with_the_newest_release(index: Index, capsys: Any) -> None:
    assert catalogues.main(["sglang", "--check", "--index", index.url]) == 0
    assert "is the newest release" in capsys.readouterr().out


def test_outside_a_checkout_a_catalogue_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(catalogues, "PACKAGE", tmp_path / "site-packages" / "pipeline")
    monkeypatch.setenv("SERVETUNE_CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "sglang-99.0-py3-none-any.whl"
    file.write_bytes(wheel())
    assert catalogues.main(["sglang==99.0", "--wheel", str(file)]) == 0
    assert str(tmp_path / "cache" / "catalogues" / "sglang" / "99.0.json") in capsys.readouterr().out
    catalogue.versions.cache_clear()
    try:
        found = catalogue.load("sglang", "99.0")
        assert found.source.endswith(hashlib.sha256(file.read_bytes()).hexdigest())
    finally:
        catalogue.load.cache_clear()
        catalogue.versions.cache_clear()
