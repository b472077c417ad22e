"""Ends a trial that runs in its own process when its sweep ends: killing the sweep must not leave trials behind."""

import os
import signal
import threading
import time

from pydantic import ValidationError

from pipeline.core.values import from_json, to_json
from pipeline.machine import identity
from pipeline.machine.identity import Identity

OWNER = "SERVETUNE_OWNER"  # the identity of the sweep's process, in the environment of all that it starts
LOOK_S = 0.25

_watching: list[threading.Thread] = []


def announce() -> None:
    """Let the processes that this one starts know whom they work for."""
    os.environ[OWNER] = to_json(identity.of())


def of_this() -> Identity | None:
    """The sweep's process that this one works for, itself perhaps; None: nobody has said."""
    try:
        return from_json(Identity, os.environ.get(OWNER, ""))
    except ValidationError:
        return None


def obey() -> None:
    """If we work for another process, watch it from now on: its end is a SIGTERM to us. May be called again.

    Polled, because the kernel's own notice (PR_SET_PDEATHSIG) reaches children alone, and submitit's are grandchildren.
    A process of another machine is taken to live: there the scheduler ends what it has started.
    """
    boss = of_this()
    if boss and boss.pid != os.getpid() and not _watching:
        _watching.append(threading.Thread(target=_watch, args=[boss], daemon=True))
        _watching[0].start()


def _watch(boss: Identity) -> None:
    while identity.is_alive(boss):
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
