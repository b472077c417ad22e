"""Where servers run. A backend is a class with a few short methods; conf/backend/<name>.yaml names it."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from pydantic import Field

from pipeline.backends.lease import Lease
from pipeline.core.values import value

if TYPE_CHECKING:  # a keeper starts with every trial: what it imports takes time from the engine
    from pipeline.core.plan import Plan
    from pipeline.core.schema import Config
    from pipeline.core.schema_hardware import Seen

    Check = Callable[[Config], str]

Tell = Callable[[str], None]  # takes what to show meanwhile; what it raises (a signal, a deadline) ends the work


@value
class Deployment:
    """A started server. It holds no client and no open file, so any process can tear it down by its lease."""

    lease: Lease
    url: str
    port: int
    pid: int | None = None
    facts: Mapping[str, str] = Field(default_factory=dict)  # for the record: image, container, the line to start it


class Backend(Protocol):
    """What every backend does. Contract: tests/contract/test_backends.py."""

    def checks(self, config: "Config") -> "Iterator[tuple[str, Check]]":
        """The preflight checks: a name, and a function that returns what it found or raises PreflightFailed."""

    def gpus(self, config: "Config") -> "tuple[Seen, ...]":
        """The GPUs that trials could be given there, one item per kind; none: there are none.

        Raises:
            PipelineError: nobody can tell; the message asks for named hardware.
        """

    def prepare(self, plan: "Plan", tell: "Tell") -> None:
        """Fetch what deploying needs, e.g. an image. Call `tell` with the progress at least once a second."""

    def await_room(self, plan: "Plan", tell: "Tell") -> None:
        """Wait until other trials release what this trial needs outside this machine; call `tell` with their names."""

    def deploy(self, plan: "Plan", lease: Lease) -> Deployment:
        """Start the server under the lease's label. Raises DeployFailed; everything created carries the label."""

    def death(self, deployment: Deployment) -> str | None:
        """How the server ended, as text; None while it runs. Must be cheap: called several times a second."""

    def condition(self, deployment: Deployment) -> str | None:
        """What the platform reports about a server that does not become ready; None if it reports nothing."""

    def owns_listener(self, deployment: Deployment) -> bool:
        """Whether our server, and no other process, listens on the port."""

    def teardown(self, lease: Lease) -> tuple[str, ...]:
        """Remove everything with the lease's label, then check; returns what is left, as text. Idempotent."""


def load(target: str) -> Backend:
    """The backend class at `target`, e.g. `pipeline.backends.local.Local`, as an object.

    Raises:
        ImportError, AttributeError: there is no such class.
    """
    module, _, name = target.rpartition(".")
    return cast("Backend", getattr(importlib.import_module(module), name)())
