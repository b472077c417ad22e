"""Copies the log of an engine's container to a file while it is written."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pipeline.backends.kube.client import Api, ApiError, Unreachable
from pipeline.backends.kube.rollout import CONTAINER
from pipeline.machine import process

AGAIN_S = 0.5
FOLLOW_S = 2.0  # for the last lines of a log, and for the news that it was the last


class Follower:
    """A thread that goes on until `is_over` says that the engine has ended.

    After a break the log is read again from its beginning and what is there already is left out: no time stamp is as
    exact as that.
    """

    def __init__(self, api: Api, pod: str, log: Path, is_over: Callable[[], bool]) -> None:
        self._api = api
        self._pod = pod
        self._is_over = is_over
        self._written = 0
        self._thread = threading.Thread(target=self._copy, args=[log], name=f"log of {pod}", daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Let it write the last lines."""
        self._thread.join(timeout=FOLLOW_S)

    def _copy(self, log: Path) -> None:
        with log.open("ab", buffering=0) as file:
            while True:
                try:
                    self._once(file)
                except Unreachable:
                    time.sleep(AGAIN_S)
                except ApiError as error:
                    if self._is_over():
                        file.write(f"[the log breaks off here: {error}]\n".encode())
                        return
                    time.sleep(AGAIN_S)
                else:
                    if process.wait_until(self._is_over, timeout_s=FOLLOW_S):
                        return

    def _once(self, file: BinaryIO) -> None:
        skip = self._written
        for piece in self._api.follow(self._pod, container=CONTAINER):
            fresh = piece[skip:]
            skip = max(0, skip - len(piece))
            self._written += file.write(fresh)
