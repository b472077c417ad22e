"""What the lines of a pull add up to, what a failed one was about, where images are kept: all without a daemon."""

from typing import Any

import pytest

from pipeline.backends import images, pull_errors
from pipeline.backends.pull import GIB, MIB, Layers
from pipeline.core.errors import FailureKind

Line = dict[str, Any]
NAME = "lmsysorg/sglang:v0.5.23"
SHA = "sha256:" + "0" * 64


def line(layer: str, status: str, current: float = 0, total: float = 0) -> Line:
    return {"id": layer, "status": status, "progressDetail": {"current": int(current), "total": int(total)}}


def begun(*layers: str) -> list[Line]:
    return [{"id": "v1", "status": "Pulling from x/y"}, *(line(layer, "Pulling fs layer") for layer in layers)]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ""),
        (begun("a", "b")[:1], ""),
        (
            [
                *begun("a", "b"),
                line("a", "Downloading", 3.1 * GIB, 9 * GIB),
                line("b", "Downloading", 0, 0.8 * GIB),
            ],
            "3.1 of 9.8 GiB, 0 of 2 layers",
        ),
        (
            [*begun("a", "b"), line("a", "Downloading", 3 * MIB, 9 * MIB)],
            "3 of at least 9 MiB, 0 of 2 layers",
        ),
        (
            [*begun("a", "b"), line("a", "Already exists"), line("b", "Downloading", 3 * MIB, 9 * MIB)],
            "3 of 9 MiB, 1 of 2 layers",
        ),
        (
            [*begun("a"), line("a", "Downloading", 3 * MIB, 9 * MIB), line("a", "Download complete")],
            "9 of 9 MiB, 0 of 1 layers, unpacking",
        ),
        (
            [*begun("a"), line("a", "Downloading", 3 * MIB, 9 * MIB), line("a", "Extracting", 1, 2)],
            "9 of 9 MiB, 0 of 1 layers, unpacking",
        ),
        (
            [*begun("a", "b"), line("a", "Download complete"), line("b", "Downloading", 3 * MIB, 9 * MIB)],
            "3 of 9 MiB, 0 of 2 layers",
        ),
        (
            [*begun("a"), line("a", "Downloading", 3 * MIB, 9 * MIB), line("a", "Retrying in 5 seconds")],
            "0 of at least 0 MiB, 0 of 1 layers",
        ),
        (
            [*begun("a"), line("a", "Downloading", 3 * MIB, -1)],
            "3 of at least 3 MiB, 0 of 1 layers",
        ),
        ([{"status": "Digest: sha256:00"}, {"status": "Status: Image is up to date for x/y:1"}], ""),
    ],
    ids=[
        "nothing-said",
        "no-layer-yet",
        "both-sizes-known",
        "one-size-not-known-yet",
        "one-is-here",
        "all-downloaded",
        "unpacked-in-other-units",
        "too-small-to-tell-its-size",
        "begins-again",
        "size-never-told",
        "about-the-image",
    ],
)
def test_lines_add_up(lines: list[Line], words: str) -> None:
    layers = Layers()
    for one in lines:
        layers.add(one)
    assert layers.words(now=0) == words


def test_the_pace_is_that_of_the_last_seconds() -> None:
    layers, told = Layers(), []
    for second, got in [(0, 0), (1, 100), (2, 200), (12, 210)]:
        layers.add(line("a", "Downloading", got * MIB, GIB))
        told.append(layers.words(now=second).split(", ")[2:])
    assert told == [[], ["100 MiB/s"], ["100 MiB/s"], ["1 MiB/s"]]


DENIED = "pull access denied for x/y, repository does not exist or may require 'docker login': denied: requested access"
RESOLVE = f'failed to resolve reference "docker.io/{NAME}":'  # so begins containerd


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        (f"manifest for {NAME} not found: manifest unknown: manifest unknown", "image_missing", "name and tag"),
        (DENIED, "image_missing", "`docker login`"),
        ("unauthorized: authentication required", "image_missing", "`docker login`"),
        (
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            "image_missing",
            "this machine's platform",
        ),
        ("invalid reference format: repository name must be lowercase", "image_missing", "lower case"),
        ("dial tcp: lookup registry-1.docker.io on 10.0.0.2:53: no such host", "registry_unreachable", "proxy"),
        ('Get "http://h:1/v2/": dial tcp 10.0.0.1:1: connect: connection refused', "registry_unreachable", "proxy"),
        ("net/http: TLS handshake timeout", "registry_unreachable", "proxy"),
        ("Head https://h/v2/x/manifests/1: EOF", "registry_unreachable", "proxy"),
        ("x509: certificate signed by unknown authority", "registry_unreachable", "insecure-registries"),
        ("http: server gave HTTP response to HTTPS client", "registry_unreachable", "insecure-registries"),
        ("received unexpected HTTP status: 503 Service Unavailable", "registry_unreachable", "Try again later"),
        ("toomanyrequests: You have reached your pull rate limit.", "registry_unreachable", "`docker login`"),
        (
            f"{RESOLVE} pull access denied, repository does not exist or may require auth",
            "image_missing",
            "docker login",
        ),
        (f"{RESOLVE} {NAME}: not found", "image_missing", "name and tag"),
        (
            f"{RESOLVE} unexpected status from HEAD request to https://h/v2/: 502 Bad Gateway",
            "registry_unreachable",
            "later",
        ),
        (
            f"{RESOLVE} unexpected status from HEAD request to https://h/v2/: 429 Too Many Requests",
            "registry_unreachable",
            "Wait",
        ),
        ("missing or empty Content-Type header", "registry_unreachable", f"docker pull {NAME}"),
        ("write /d/tmp/GetImageBlob12: no space left on device", "disk_full", "docker image prune"),
        ("failed to register layer: write /usr/x: no space left on device", "disk_full", "data-root"),
    ],
    ids=lambda text: text if text.replace("_", "").isalpha() else "",
)
def test_a_cause_is_told_by_its_words(said: str, kind: str, hint: str) -> None:
    told = pull_errors.failure(NAME, said)
    assert told.kind == FailureKind(kind)
    assert hint in told.hint
    assert str(told) == f"The image {NAME} cannot be pulled: {said}"


@pytest.mark.parametrize(
    ("image", "command"),
    [(NAME, "`docker login`"), ("ghcr.io/x/y:1", "`docker login ghcr.io`"), ("-/x", "`docker login`")],
    ids=["the-default", "another", "no-name-at-all"],
)
def test_the_login_is_that_of_the_registry(image: str, command: str) -> None:
    assert command in pull_errors.failure(image, "denied").hint


@pytest.mark.parametrize(
    ("image", "known", "expected"),
    [
        ("x/y:1", [f"x/y@{SHA}"], f"x/y@{SHA}"),
        ("h:5000/x/y", [f"x/y@{SHA}", f"h:5000/x/y@{SHA}"], f"h:5000/x/y@{SHA}"),
        ("h:5000/x/y:1", [f"x/y@{SHA}", f"h:5000/x/y@{SHA}"], f"h:5000/x/y@{SHA}"),
        (f"x/y@{SHA}", [f"h:5000/x/y@{SHA}", f"x/y@{SHA}"], f"x/y@{SHA}"),
        ("mine:1", [f"x/y@{SHA}"], f"x/y@{SHA}"),
        ("mine:1", [], None),
        ("mine:1", None, None),
    ],
    ids=["tag", "port-without-tag", "port-and-tag", "by-digest", "named-anew", "built-here", "built-here-too"],
)
def test_the_digest_is_the_registrys(image: str, known: list[str] | None, expected: str | None) -> None:
    assert images.digest({"RepoDigests": known}, image) == expected


CONTAINERDS = [["driver-type", "io.containerd.snapshotter.v1"]]


@pytest.mark.parametrize(
    ("info", "folder"),
    [
        ({"DriverStatus": [["Backing Filesystem", "extfs"]]}, "/docker"),
        ({"DriverStatus": None, "Containerd": {"Address": "/run/containerd/containerd.sock"}}, "/docker"),
        ({"DriverStatus": CONTAINERDS}, "/docker"),
        ({"DriverStatus": CONTAINERDS, "Containerd": {"Address": "/exec/containerd/containerd.sock"}}, "/docker"),
        (
            {"DriverStatus": CONTAINERDS, "Containerd": {"Address": "/run/containerd/containerd.sock"}},
            "/var/lib/containerd",
        ),
    ],
    ids=["overlay2", "overlay2-and-a-systems-containerd", "address-not-told", "its-own-containerd", "the-systems"],
)
def test_images_are_kept_where_their_store_is(info: Line, folder: str) -> None:
    assert images.store({"DockerRootDir": "/docker", **info}) == folder
