"""The API server in plain requests: what plays a part of Kubernetes must not use the library under test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import requests

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
OME = "/apis/ome.io/v1beta1"
ANSWER_S = 60.0  # on a busy machine


@dataclass(frozen=True)
class Api:
    """Paths are the API's own: `/api/v1/namespaces/x/pods/y`."""

    url: str
    token: str
    ca: Path
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def is_ready(self) -> bool:
        return bool(requests.get(f"{self.url}/readyz", headers=self._headers(), verify=str(self.ca), timeout=5).ok)

    def get(self, path: str) -> Any:
        """An object.

        Raises:
            requests.HTTPError: it is not there, or may not be read.
        """
        return self._send("GET", path).json()

    def find(self, path: str) -> Any:
        """An object, or None where it is not there."""
        answer = self._session().get(self.url + path, headers=self._headers(), timeout=ANSWER_S)
        return None if answer.status_code == 404 else _checked(answer).json()

    def list(self, path: str, **selectors: str) -> list[Any]:
        return cast("list[Any]", self._send("GET", path, params=selectors).json()["items"])

    def watch(self, path: str) -> Iterator[bytes]:
        """One line for each object that is there, then for each change, until the connection ends."""
        with self._send("GET", path, params={"watch": "1"}, stream=True, timeout=(ANSWER_S, None)) as answer:
            yield from answer.iter_lines()

    def create(self, path: str, body: Any) -> Any:
        return self._send("POST", path, json=body).json()

    def create_from_yaml(self, path: str, text: bytes) -> None:
        self._send("POST", path, data=text, headers={**self._headers(), "Content-Type": "application/yaml"})

    def patch(self, path: str, body: Any, kind: str = MERGE) -> Any:
        return self._send("PATCH", path, json=body, headers={**self._headers(), "Content-Type": kind}).json()

    def delete(self, path: str, **options: Any) -> None:
        """Gone or on its way; nothing if it was not there."""
        answer = self._session().delete(self.url + path, headers=self._headers(), json=options, timeout=ANSWER_S)
        if answer.status_code not in {404, 409}:  # 409: another object of that name by now
            _checked(answer)

    def _send(self, verb: str, path: str, **more: Any) -> requests.Response:
        more = {"headers": self._headers(), "timeout": ANSWER_S, **more}
        return _checked(self._session().request(verb, self.url + path, **more))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _session(self) -> requests.Session:
        """One for each thread, so that connections are kept."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.verify = str(self.ca)
            self._local.session.trust_env = False
        return cast("requests.Session", self._local.session)


def _checked(answer: requests.Response) -> requests.Response:
    """Raises with what the server said, not only with its number."""
    if not answer.ok:
        words = f"{answer.status_code} {answer.request.method} {answer.url}: {answer.text[:500]}"
        raise requests.HTTPError(words, response=answer)
    return answer
