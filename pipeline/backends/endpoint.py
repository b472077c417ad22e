"""Measures a server that is already there: whatever it is, it is left as it was found."""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.backends import Deployment, Tell, lease
from pipeline.core.errors import DeployFailed
from pipeline.core.files import RunDir

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.backends import Check
    from pipeline.core.plan import Plan
    from pipeline.core.schema import Config
    from pipeline.core.schema_hardware import Seen

PORTS = {"http": 80, "https": 443}
NOTHING = "the server was there already: nothing was deployed, and nothing torn down"


class Endpoint:
    """Starts nothing, and so removes nothing."""

    def checks(self, config: "Config") -> "Iterator[tuple[str, Check]]":
        """Whether the server answers, takes the key and has the model."""
        from pipeline.engines import endpoint

        yield "endpoint", endpoint.check

    def gpus(self, config: "Config") -> "tuple[Seen, ...]":
        """Nobody can tell."""
        return ()

    def prepare(self, plan: "Plan", tell: Tell) -> None:
        """Nothing to fetch."""

    def await_room(self, plan: "Plan", tell: Tell) -> None:
        """Nothing: pipeline.machine.slots lets one trial at a time measure a server."""

    def deploy(self, plan: "Plan", owned: lease.Lease) -> Deployment:
        """What is there. In place of a log, a line says that there is none.

        Raises:
            DeployFailed: the plan has no URL, or the line cannot be written.
        """
        if plan.url is None:
            raise DeployFailed("backend=endpoint needs backend.url.")
        try:
            RunDir(plan.run_dir).server_log.write_text(f"{plan.url}: {NOTHING}. Its log is where it runs.\n", "utf-8")
        except OSError as error:
            raise DeployFailed(f"{error.filename} cannot be written: {error.strerror or error}.") from error
        there = urlsplit(plan.url)
        facts = {"endpoint": plan.url, "served_name": plan.served_name}
        return Deployment(lease=owned, url=plan.url, port=there.port or PORTS[there.scheme], facts=facts)

    def death(self, deployment: Deployment) -> str | None:
        """Nobody can tell from here: what it does not answer is counted by the load generator."""
        return None

    def condition(self, deployment: Deployment) -> str | None:
        """Nobody reports one."""
        return None

    def owns_listener(self, deployment: Deployment) -> bool:
        """Whoever answers there is who was asked for."""
        return True

    def teardown(self, owned: lease.Lease) -> tuple[str, ...]:
        """Nothing: it is not ours."""
        return ()
