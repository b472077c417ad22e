"""The errors of daemons and registries when an image cannot be pulled: one row per cause, the first match counts.

Where a source names no file, the words were seen with dockerd 20.10.24 and, as registry, docker-registry 2.8.2 or an
HTTP server that answers with that status.
"""

import re
from dataclasses import dataclass

from docker.auth import resolve_repository_name
from docker.errors import DockerException

from pipeline.core.errors import FailureKind as Kind
from pipeline.core.errors import PreflightFailed

FREE_SPACE = (
    "See `docker system df`; free space with `docker image prune`, or give Docker a larger disk (data-root in "
    "/etc/docker/daemon.json)."
)
_LOGIN = (
    "Check the image's name and tag (runtime.image, runtime.version); for a private image run `docker login{registry}`."
)
_NETWORK = (
    "Try `docker pull {image}`. Fix the network, or the daemon's proxy (docs.docker.com/engine/daemon/proxy), or set "
    "backend.container.image to the same image in a registry that the daemon can reach."
)
_TLS = "Install the registry's certificate (/etc/docker/certs.d), or add the registry to insecure-registries."
_LIMIT = "Wait, or run `docker login{registry}`: logged-in users have a higher limit."
_LATER = "Try again later: the registry reports an error. Run `docker pull {image}` to see whether it still does."
_OTHER = "Run `docker pull {image}`: it shows the same error and how far the pull gets."


@dataclass(frozen=True)
class Cause:
    """Words of the same cause. In a hint, {image} is what was asked for, {registry} an argument for docker login."""

    words: str  # a regular expression, for whatever case
    kind: Kind
    hint: str
    source: str


CAUSES = (
    Cause(
        "no space left on device|disk quota exceeded",
        Kind.DISK_FULL,
        FREE_SPACE,
        "`write DIR/tmp/GetImageBlob1: no space left on device`; while unpacking `failed to register layer: ...`",
    ),
    Cause(
        "toomanyrequests|429 too many requests|rate limit",
        Kind.REGISTRY_UNREACHABLE,
        _LIMIT,
        "`toomanyrequests: ...`, also in docs.docker.com/docker-hub/usage/pulls",
    ),
    Cause(
        "no matching manifest for",
        Kind.IMAGE_MISSING,
        "Set runtime.image to an image for this machine's platform: this one was not built for it.",
        "moby 20.10 distribution/pull_v2.go, noMatchesErr",
    ),
    Cause(
        "x509: |tls: |http: server gave HTTP response",
        Kind.REGISTRY_UNREACHABLE,
        _TLS,
        "Go's crypto/x509, crypto/tls, net/http",
    ),
    Cause(
        "no such host|connection refused|connection reset|network is unreachable|no route to host|i/o timeout"
        "|TLS handshake timeout|deadline exceeded|request canceled|name resolution|proxyconnect|EOF$",
        Kind.REGISTRY_UNREACHABLE,
        _NETWORK,
        '`Get "https://HOST/v2/": dial tcp: lookup HOST: no such host`, `... connect: connection refused`; Go\'s net',
    ),
    Cause(
        r"(unexpected HTTP status|unexpected status .*): 5\d\d",
        Kind.REGISTRY_UNREACHABLE,
        _LATER,
        "`received unexpected HTTP status: 503 Service Unavailable`; containerd: remotes/errors/errors.go",
    ),
    Cause(
        "manifest unknown|not found|does not exist|name unknown",
        Kind.IMAGE_MISSING,
        _LOGIN,
        "`manifest for IMAGE not found: manifest unknown`; moby 20.10 distribution/errors.go",
    ),
    Cause(
        "denied|unauthorized|authentication required|authorization failed|no basic auth credentials",
        Kind.IMAGE_MISSING,
        _LOGIN,
        "`unauthorized`, `denied`; `pull access denied for NAME, ...`: moby 20.10 distribution/errors.go",
    ),
    Cause(
        "invalid reference format",
        Kind.IMAGE_MISSING,
        "Write the image as name:tag, in lower case (runtime.image, backend.container.image).",
        "`invalid reference format: repository name must be lowercase`",
    ),
)
UNKNOWN = Cause("", Kind.REGISTRY_UNREACHABLE, _OTHER, "`missing or empty Content-Type header` of what is no registry")


def failure(image: str, said: str) -> PreflightFailed:
    """The failure behind what a daemon said instead of pulling `image`."""
    cause = next((one for one in CAUSES if re.search(one.words, said, re.IGNORECASE)), UNKNOWN)
    hint = cause.hint.format(image=image, registry=_login(image))
    return PreflightFailed(f"The image {image} cannot be pulled: {said}", kind=cause.kind, hint=hint)


def _login(image: str) -> str:
    """The registry as `docker login` takes it; its default is left out."""
    try:
        registry = resolve_repository_name(image)[0]
    except DockerException:  # no name of an image at all
        return ""
    return "" if registry == "docker.io" else f" {registry}"
