"""Room for a connection of each user."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.errors import PreflightFailed
from pipeline.machine import sockets

FILES = resource.RLIMIT_NOFILE


class Kernel:
    """Limits as the kernel keeps them, for somebody who is not root."""

    def __init__(self, soft: int, hard: int) -> None:
        self.limits = (soft, hard)

    def get(self, which: int) -> tuple[int, int]:
        assert which == FILES
        return self.limits

    def set(self, which: int, wanted: tuple[int, int]) -> None:
        assert which == FILES
        if wanted[1] > self.limits[1] != resource.RLIM_INFINITY:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = wanted


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    made = Kernel(100, 1000)
    monkeypatch.setattr(resource, "getrlimit", made.get)
    monkeypatch.setattr(resource, "setrlimit", made.set)
    monkeypatch.setattr(sockets, "PORTS", tmp_path / "ports")
    (tmp_path / "ports").write_text("32768\t60999\n")
    return made


@pytest.mark.parametrize(
    ("users", "limits"), [(10, (100, 1000)), (36, (100, 1000)), (37, (101, 1000)), (936, (1000, 1000))]
)
def test_the_soft_limit_is_raised_to_what_is_needed(kernel: Kernel, users: int, limits: tuple[int, int]) -> None:
    assert sockets.make_room(users) == f"{limits[0]} open files"
    assert kernel.limits == limits


def test_more_than_the_hard_limit_is_refused(kernel: Kernel) -> None:
    kernel.limits = (160, 160)
    with pytest.raises(PreflightFailed) as caught:
        sockets.make_room(200)
    assert str(caught.value) == (
        "200 users need 264 open files, a socket each and 64 of the load generator's own; this process may have 160 "
        "(the hard limit)."
    )
    assert "ulimit -Hn 264" in caught.value.hint
    assert kernel.limits == (160, 160)


def test_no_limit_is_enough(kernel: Kernel) -> None:
    kernel.limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert sockets.make_room(10_000) == "no limit of open files"


def test_too_few_ports_are_refused(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "ports").write_text("60000 60099")
    assert sockets.make_room(100)
    with pytest.raises(PreflightFailed, match=r"this machine gives out 100 \(60000 to 60099\)"):
        sockets.make_room(101)


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has inherited less than is needed later."""
    soft, hard = resource.getrlimit(FILES)
    resource.setrlimit(FILES, (70, hard))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as made:
        yield made
        made.communicate()
    resource.setrlimit(FILES, (soft, hard))


def test_what_runs_already_is_given_room_too(child: "subprocess.Popen[bytes]") -> None:
    sockets.make_room(30)
    assert resource.prlimit(child.pid, FILES)[0] == 94
