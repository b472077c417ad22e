"""What becomes of an engine's log in whatever way the connection, the pod and the folder end."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.backends.kube import logs
from pipeline.backends.kube.client import ApiError, Unreachable
from pipeline.machine import process


class _Log:
    """An API that knows one log. Each connection gives it from its beginning, then ends as `ends` says."""

    def __init__(self, *ends: Exception | None) -> None:
        self.ends = list(ends)
        self.text = b"loading\nready\n"

    def follow(self, pod: str, *, container: str) -> Iterator[bytes]:
        yield self.text
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        if end is not None:
            raise end


def _followed(api: Any, log: Path, is_over: Callable[[], bool] = lambda: False) -> logs.Follower:
    return logs.Follower(api, "engine-pod", log, is_over)


def _wait() -> None:
    assert process.wait_until(_has_ended, timeout_s=180)


def _has_ended() -> bool:
    return not any(thread.name == "log of engine-pod" for thread in threading.enumerate())


def test_a_broken_connection_costs_no_line_and_repeats_none(tmp_path: Path) -> None:
    _followed(_Log(Unreachable("reset"), None), tmp_path / "server.log", lambda: True)

    _wait()
    assert (tmp_path / "server.log").read_text() == "loading\nready\n"


@pytest.mark.parametrize("end", [Unreachable("down"), ApiError(404, "NotFound", "no pod"), None])
def test_nothing_is_asked_after_the_end_of_the_trial(end: Exception | None, tmp_path: Path) -> None:
    follower = _followed(_Log(end), tmp_path / "server.log")

    follower.close()

    _wait()


def test_a_pod_that_is_gone_ends_the_log_with_the_reason(tmp_path: Path) -> None:
    _followed(_Log(ApiError(404, "NotFound", "no such pod")), tmp_path / "server.log", lambda: True)

    _wait()
    assert (tmp_path / "server.log").read_text().endswith("[the log breaks off here: ApiError: no such pod]\n")


def test_what_nobody_thought_of_is_told_in_the_log(tmp_path: Path) -> None:
    _followed(_Log(ValueError("no such codec")), tmp_path / "server.log")

    _wait()
    assert "ValueError: no such codec" in (tmp_path / "server.log").read_text()


def test_a_folder_that_is_gone_needs_no_log(tmp_path: Path) -> None:
    _followed(_Log(None), tmp_path / "gone" / "server.log")

    _wait()
