"""Signs of life of a process at a search, for those on other machines."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from pipeline.sweep.search.study import Study

BEAT_S = 60.0


@contextmanager
def beating(study: Study) -> Iterator[None]:
    """Other machines hear of this process while it is in here."""
    done = Event()

    def beat() -> None:
        while not done.wait(BEAT_S):
            study.beat()
        study.close()

    study.beat()
    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        study.close()
