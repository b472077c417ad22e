"""Copies the log of an engine's container to a file while it is written."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pipeline.backends.kube.client import Api, ApiError, Unreachable
from pipeline.backends.kube.rollout import CONTAINER
from pipeline.machine import process

AGAIN_S = 0.5
FOLLOW_S = 2.0  # for the last lines of a log, and for the news that it was the last


class Follower:
    """A thread that goes on until `is_over` says that the engine has ended, or until `close`.

    After a break the log is read again from its beginning and what is there already is left out: no time stamp is as
    exact as that.
    """

    def __init__(self, api: Api, pod: str, log: Path, is_over: Callable[[], bool]) -> None:
        self._api = api
        self._pod = pod
        self._is_over = is_over
        self._written = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._copy, args=[log], name=f"log of {pod}", daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Let it write the last lines."""
        self._thread.join(timeout=FOLLOW_S)

    def close(self) -> None:
        """Ask for nothing more: the pod is gone, or nobody waits for its words."""
        self._closed.set()

    def _copy(self, log: Path) -> None:
        with suppress(OSError), log.open("ab", buffering=0) as file:  # a folder that is gone, a disk that is full
            try:
                while not (self._closed.is_set() or self._is_done(file)):
                    self._closed.wait(AGAIN_S)
            except Exception as error:  # noqa: BLE001 - a log that breaks off is no reason to lose a trial
                file.write(f"[the log breaks off here: {type(error).__name__}: {error}]\n".encode())

    def _is_done(self, file: BinaryIO) -> bool:
        """Copy what there is until the connection ends; whether it was the last.

        Raises:
            ApiError: there is no such log any more, as the engine has ended.
        """
        try:
            self._once(file)
        except Unreachable:
            return False
        except ApiError:
            if self._is_over():
                raise
            return False
        return process.wait_until(lambda: self._closed.is_set() or self._is_over(), timeout_s=FOLLOW_S)

    def _once(self, file: BinaryIO) -> None:
        skip = self._written
        for piece in self._api.follow(self._pod, container=CONTAINER):
            fresh = piece[skip:]
            skip = max(0, skip - len(piece))
            self._written += file.write(fresh)
