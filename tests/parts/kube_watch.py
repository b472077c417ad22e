"""Says when something has changed on an API server, so that a loop need not ask ten times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import requests

from parts.kube_api import Api

AGAIN_S = 0.1  # before a watch that broke begins anew


class Changes:
    """Of the kinds with these paths, since it was last asked."""

    def __init__(self, api: Api, paths: Sequence[str]) -> None:
        self._api = api
        self._seen = threading.Event()
        for path in paths:
            threading.Thread(target=self._watch, args=(path,), daemon=True).start()

    def any(self) -> bool:
        """Whether there were some; a watch that broke counts, for what it may have missed."""
        seen = self._seen.is_set()
        self._seen.clear()
        return seen

    def _watch(self, path: str) -> None:
        while True:
            try:
                for _ in self._api.watch(path):
                    self._seen.set()
            except requests.RequestException:
                time.sleep(AGAIN_S)
            self._seen.set()
