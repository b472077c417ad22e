"""A server that is there already: what is found out before anything is measured; each way to fail in one message."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.openai_server import Mood, certified, one, serving
from parts.llama import free_port
from pipeline.core.errors import FailureKind, ModelError, PreflightFailed
from pipeline.core.schema import Config
from pipeline.engines import endpoint, http
from support.records import make_config

KEY = "hunter2-hunter2"
Refusal = Callable[..., PreflightFailed]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """How servers are reached is the process's."""
    yield
    http.use(make_config().backend)


def at(url: str, **settings: Any) -> Config:
    made = make_config()
    return replace(made, backend=replace(made.backend, url=url, **settings))


def refused(url: str, **settings: Any) -> str:
    """The message and the hint."""
    with pytest.raises(PreflightFailed) as caught:
        endpoint.check(at(url, **settings))
    return f"{caught.value} {caught.value.hint}"


def test_finds_the_only_model_and_sends_nothing_that_costs() -> None:
    with serving("org/big") as server:
        assert endpoint.check(at(server.url)) == f"{server.url} serves org/big"
        assert [(seen.method, seen.path) for seen in server.asked] == [
            ("GET", "/v1/models"),
            ("POST", "/v1/chat/completions"),
        ]
        assert server.chats == []


def test_a_path_before_v1_is_kept() -> None:
    with serving(prefix="/team/a") as server:
        assert endpoint.check(at(server.url)).endswith("/team/a serves tiny")


def test_sends_the_key_of_the_variable_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", KEY)
    monkeypatch.setenv("SERVETUNE_API_KEY", "of-another-server")
    with serving(key=KEY) as server:
        assert "serves tiny" in endpoint.check(at(server.url, api_key_env="TEAM_KEY"))
        assert {seen.key for seen in server.asked} == {f"Bearer {KEY}"}


def test_a_key_that_is_missing_wrong_or_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(key=KEY) as server:
        assert "wants a key: HTTP 401, and SERVETUNE_API_KEY is not set. Set the key" in refused(server.url)
        assert "backend.api_key_env=TEAM_KEY: there is no such" in refused(server.url, api_key_env="TEAM_KEY")
        monkeypatch.setenv("SERVETUNE_API_KEY", "of-another-server")
        told = refused(server.url)
        assert "does not take the key in SERVETUNE_API_KEY: HTTP 401: invalid api key." in told
        assert "of-another-server" not in told


def test_a_wrong_key_is_found_where_anybody_may_list_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVETUNE_API_KEY", "of-another-server")
    with serving(key=KEY, mood="open list") as server:
        assert "does not take the key" in refused(server.url)


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("page", "answers /v1/models with a web page, not with OpenAI's API"),
        ("other json", 'expected a list of models, seen {"status": "up"}'),
        ("moved", "redirects to https://elsewhere.example/v1/models"),
        ("no chat", "has no /v1/chat/completions: HTTP 404"),
    ],
)
def test_a_server_that_is_another_one(mood: Mood, words: str) -> None:
    with serving(mood=mood) as server:
        assert words in refused(server.url)


def test_says_where_a_redirect_goes() -> None:
    with serving(mood="moved", prefix="/x") as server:
        assert "Set backend.url=https://elsewhere.example/x" in refused(server.url)


def test_a_url_without_its_path() -> None:
    with serving(prefix="/team") as server:
        url = server.url.removesuffix("/team")
        assert "has no /v1/models: HTTP 404. Set backend.url to the part" in refused(url)


def test_nobody_there() -> None:
    port = free_port()
    told = refused(f"http://localhost:{port}")
    assert f"connection refused: nothing listens on port {port}. Check backend.url" in told


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "the name no.such.host is not known (DNS)" in refused("http://no.such.host")


def test_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "did not answer within 0.2 s" in refused(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_tls_by_a_certificate_of_ones_own(tmp_path: Path) -> None:
    own = certified(tmp_path)
    with serving(certificate=own) as server:
        assert endpoint.check(at(server.url, ca_file=own)).endswith("serves tiny")
        told = refused(server.url)
        assert "its certificate is not signed by anybody that is trusted here. Set backend.ca_file" in told
        assert "is not a file" in refused(server.url, ca_file=tmp_path / "none.pem")
        assert "perhaps the server expects https://" in refused(server.url.replace("https", "http"))


def test_certificates_of_the_environment_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = certified(tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    with serving(certificate=own) as server:
        assert endpoint.check(at(server.url)).endswith("serves tiny")
        assert set(http.trust().values()) == {str(own)}


def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    own = certified(tmp_path, name="other.example")
    with serving(certificate=own) as server:
        assert "its certificate is for another name" in refused(server.url, ca_file=own)


def test_https_where_there_is_no_tls() -> None:
    with serving() as server:
        told = refused(server.url.replace("http", "https"))
        assert "it does not speak TLS. Set backend.url to http://" in told


def test_a_server_that_still_loads_is_waited_for() -> None:
    with serving(mood="loading") as server:
        config = at(server.url)
        assert "not ready yet: trials wait for it" in endpoint.check(config)

        def then() -> None:
            server.mood = "well"

        assert endpoint.await_name(config, watch=then) == "tiny"


def test_a_server_that_never_gets_ready() -> None:
    config = at("http://unused")
    health = replace(config.runtime.health, timeout_s=0.01, interval_s=0.02)
    with serving(mood="loading") as server:
        slow = replace(at(server.url), runtime=replace(config.runtime, health=health))
        with pytest.raises(PreflightFailed, match=r"was not ready within 0\.01 s") as caught:
            endpoint.await_name(slow, watch=lambda: None)
    assert caught.value.kind == FailureKind.NOT_READY_IN_TIME


def name(*listed: str, wanted: str | None = None, **model: Any) -> str:
    made = at("http://h", served_name=wanted)
    return endpoint.name_of([one(each) for each in listed], made.backend, replace(made.model, **model))


def test_which_of_several_models_is_meant() -> None:
    assert name("a", "b", wanted="b") == "b"
    assert name("a", "org/b", repo="org/b") == "org/b"
    assert name("a", "mine", served_name="mine") == "mine"
    assert name("base", "base:adapter") == "base"
    assert name("base", "base:adapter", wanted="base:adapter") == "base:adapter"


@pytest.mark.parametrize(
    ("listed", "wanted", "words"),
    [
        (("a", "b"), None, "lists 2 models: a, b. Set backend.served_name to the one to measure."),
        ((), None, "lists no model. Load a model there first."),
        (("a", "b"), "c", "backend.served_name=c: http://h does not serve it. It serves: a, b. Set"),
        (tuple(map(str, range(12))), "c", "8, 9 and 2 more."),
    ],
)
def test_a_model_that_nobody_can_tell(listed: tuple[str, ...], wanted: str | None, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        name(*listed, wanted=wanted)
    assert words in f"{caught.value} {caught.value.hint}"
