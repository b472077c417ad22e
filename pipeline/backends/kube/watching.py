"""Watches a trial's objects: one thread per kind keeps the last state, also when connections break."""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipeline.backends.kube.client import Api, ApiError, Unreachable
from pipeline.backends.kube.rollout import Seen

Object = dict[str, Any]
AGAIN_S = 0.5  # between two tries to reach the API server
TICK_S = 0.2  # so long a signal may wait for Python to see it
EXPIRED = 410  # Gone: the version from which to watch is too old


@dataclass(frozen=True)
class _Stream:
    """Which objects of a kind are the trial's."""

    kind: str
    labels: str = ""
    fields: str = ""
    prefix: str = ""  # of the name of what an event is about: no selector knows prefixes

    def is_ours(self, item: Object) -> bool:
        return not self.prefix or str(item.get("involvedObject", {}).get("name", "")).startswith(self.prefix)


class View:
    """What the cluster says of the trial `name`, kept fresh until `close`.

    While the API server is away the last state stays; afterwards all is listed again, so nothing is missed.
    """

    def __init__(self, api: Api, name: str) -> None:
        self.api = api
        self.name = name
        self._changed = threading.Condition()
        self._found: dict[str, dict[str, Object]] = {}  # by kind and uid
        self._gone: dict[str, dict[str, Object]] = {}  # the same, of what was deleted, as it was last
        self._refused: ApiError | None = None
        self._is_closed = False
        streams = (
            _Stream("InferenceService", fields=f"metadata.name={name}"),
            _Stream("Deployment", fields=f"metadata.name={name}-engine"),
            _Stream("Pod", labels=f"ome.io/inferenceservice={name}"),
            _Stream("Event", prefix=name),
        )
        for stream in streams:
            threading.Thread(target=self._follow, args=[stream], name=f"{stream.kind} of {name}", daemon=True).start()

    def close(self) -> None:
        """Its threads end when their watches next say something, at the latest after client.WATCH_S."""
        self._is_closed = True
        self.api.close()

    def check(self) -> None:
        """Return while the watch works.

        Raises:
            ApiError: it is not allowed.
        """
        if self._refused:
            raise self._refused

    def seen(self) -> Seen:
        """What was seen last."""
        with self._changed:
            services, deployments = self._all("InferenceService"), self._all("Deployment")
            return Seen(
                service=next(iter(services), None),
                deployment=next(iter(deployments), None),
                pods=tuple(self._all("Pod")),
                gone=tuple(self._gone.get("Pod", {}).values()),
                events=tuple(sorted(self._all("Event"), key=_time)),
                is_removed=any(self._gone.get(kind) and not self._found[kind] for kind in ("InferenceService", "Pod")),
            )

    def pause(self) -> None:
        """Wait until something has changed, but only briefly, so that signals and deadlines are heard."""
        with self._changed:
            self._changed.wait(TICK_S)

    def _all(self, kind: str) -> list[Object]:
        return list(self._found.get(kind, {}).values())

    def _follow(self, stream: _Stream) -> None:
        while not self._is_closed:
            with suppress(Unreachable):
                try:
                    self._once(stream)
                    continue
                except ApiError as error:
                    if error.code != EXPIRED and error.code < 500:
                        self._refuse(error)
                        return
            time.sleep(AGAIN_S)

    def _once(self, stream: _Stream) -> None:
        """List, then watch until the server ends it."""
        items, version = self.api.snapshot(stream.kind, labels=stream.labels, fields=stream.fields)
        self._put(stream, {item["metadata"]["uid"]: item for item in items if stream.is_ours(item)})
        for happened, item in self.api.watch(stream.kind, version=version, labels=stream.labels, fields=stream.fields):
            if self._is_closed:
                return
            if stream.is_ours(item):
                self._take(stream, happened, item)

    def _take(self, stream: _Stream, happened: str, item: Object) -> None:
        known = dict(self._found.get(stream.kind, {}))
        uid = item["metadata"]["uid"]
        known[uid] = item
        self._put(stream, known)
        if happened == "DELETED":  # it carries the last state, which says why
            self._put(stream, {one: thing for one, thing in known.items() if one != uid})

    def _put(self, stream: _Stream, known: dict[str, Object]) -> None:
        with self._changed:
            before = self._found.get(stream.kind, {})
            self._found[stream.kind] = known
            if stream.kind != "Event":
                lost = {uid: thing for uid, thing in before.items() if uid not in known}
                self._gone[stream.kind] = self._gone.get(stream.kind, {}) | lost
            self._changed.notify_all()

    def _refuse(self, error: ApiError) -> None:
        with self._changed:
            self._refused = error
            self._changed.notify_all()


def _time(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])
