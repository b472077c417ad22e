"""Connections to real servers: encrypted ones, and ones that cannot be had."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fakes.scripted_chat import GOOD, scripted
from pipeline.bench import connection, ledger, workers
from pipeline.bench.connection import Poll, connect, server, shift
from pipeline.bench.wire import get, prepare
from pipeline.bench.workers import Level, Means, Prompts


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of 127.0.0.1, trusted as `requests` would trust it; with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "here.pem"
    path.write_bytes(made.public_bytes(pem) + private)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    return path


def sent(url: str, path: Path) -> list[tuple[str, str | None]]:
    """What became of four requests of two users."""

    def write(line: str) -> None:
        with path.open("a") as file:
            file.write(line)

    long = {"max_tokens": 2, "messages": "x" * 3_000_000}  # more than is written at once
    prompts = Prompts([prepare(f"{url}/v1/chat/completions", {}, long)] * 4, lambda: pytest.fail("none more"))
    means = Means(prompts, lambda: server(url), len, get(f"{url}/v1/models", {}))
    workers.run(Level(4, 2, 600.0, 600.0, write), 1, means)
    seen = ledger.read(path)
    assert seen is not None
    return [(one.ending, one.words) for one in seen.requests]


def test_an_encrypted_server_is_measured_too(certificate: Path, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with scripted([GOOD], context=context) as chat:
        assert sent(chat.url, tmp_path / ledger.NAME) == [("answered", None)] * 4


def test_a_certificate_that_nobody_trusts_fails_every_request(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with scripted([GOOD], context=context) as chat:
        seen = sent(chat.url, tmp_path / ledger.NAME)
    assert {ending for ending, _ in seen} == {"unreadable"}
    assert all("CERTIFICATE_VERIFY_FAILED" in str(words) for _, words in seen)


def test_a_long_request_is_written_in_parts(tmp_path: Path) -> None:
    with scripted([GOOD]) as chat:
        assert sent(chat.url, tmp_path / ledger.NAME) == [("answered", None)] * 4
        assert {len(body) for body in chat.bodies if body} == {3_000_000 + len('{"max_tokens": 2, "messages": ""}')}


def test_a_name_that_nobody_knows_is_our_own_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(connection, "_resolve", resolve)
    seen = sent("http://nowhere.invalid", tmp_path / ledger.NAME)
    assert {ending for ending, _ in seen} == {"client"}


def test_a_refused_connection_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    poll = Poll()
    one = connect(server(url))
    poll.watch(one)
    poll.wait(60)
    with pytest.raises(ConnectionRefusedError):
        one.opened()
    one.close()
    poll.close()


def test_without_epoll_poll_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(connection, "_epoll", None)
    with scripted([GOOD]) as chat:
        assert sent(chat.url, tmp_path / ledger.NAME) == [("answered", None)] * 4


def test_clocks_are_not_compared_while_we_are_interrupted() -> None:
    times = iter([0.0, 5.0])  # the process slept between two looks
    assert shift(lambda: next(times), 1000.0, tries=1) == 1000.0
    assert shift(lambda: 1.0, 1000.0, tries=1) > 1e9
