"""The same for every test, whoever starts them: signals, umask, locale, home, and what the environment says of these.

A plugin of tests/conftest.py.
"""

import locale
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

PYTHONS_OWN = {signal.SIGPIPE, signal.SIGXFSZ}  # ignored by every Python, and given back to what it starts
# More tests run at once than there are cores: each would measure its levels twice
PINNED = {"LANG": "C.UTF-8", "TERM": "xterm", "TZ": "UTC", "SERVETUNE_CROWDED": "ignore"}
PINNED |= {"CUDA_VISIBLE_DEVICES": ""}  # hardware=auto is the CPU whatever is here; parts/nvml.py plays GPUs
FOREIGN = re.compile(
    r"LC_|LANGUAGE$|COLUMNS$|LINES$|NO_COLOR$|FORCE_COLOR$|CLICOLOR|COLORTERM$|TTY_|POSIXLY_CORRECT$|MAKE|MFLAGS$"
    r"|PYTHON(UTF8|COERCECLOCALE|IOENCODING|WARNINGS|OPTIMIZE|PATH|SAFEPATH)$|XDG_|([A-Z]+_)?PROXY$|[a-z]+_proxy$"
    r"|KUBECONFIG$|DOCKER_|(CUDA|HIP|ROCR)_VISIBLE_DEVICES$|SLURM_|SBATCH_|SUBMITIT_"
)


def pytest_configure() -> None:
    """Before tests are collected: some read files then."""
    locale.setlocale(locale.LC_CTYPE, PINNED["LANG"])


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For what runs in this process and what it starts. A session's, for fixtures that outlive a test have it too."""
    with signals_heard_by_children(), pytest.MonkeyPatch.context() as patch:
        for name in filter(FOREIGN.match, list(os.environ)):
            patch.delenv(name)
        for name, word in PINNED.items():
            patch.setenv(name, word)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        # Stand-ins start by `env python3`: a shim of pyenv's takes five times as long, a thousand times
        patch.setenv("PATH", str(Path(sys.executable).resolve().parent), prepend=os.pathsep)
        time.tzset()
        before = os.umask(0o022)
        yield
        os.umask(before)
    time.tzset()


@contextmanager
def signals_heard_by_children() -> Iterator[None]:
    """Ignored and blocked signals are inherited: by the tests of a background job, of `nohup`.

    Such a signal gets a handler that does nothing. Then we still ignore it, and what we start begins with the default.
    """
    ignored = [one for one in signal.valid_signals() - PYTHONS_OWN if signal.getsignal(one) is signal.SIG_IGN]
    for one in ignored:
        signal.signal(one, _ignore)
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    for one in ignored:
        signal.signal(one, signal.SIG_IGN)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    return
