"""Our side of the resident genai-bench (`driver.py`): starts it early, sends it levels, survives its failures."""

import os
import time
from pathlib import Path
from typing import Any

from pipeline.bench import Job, Outcome, Watch, ledger
from pipeline.bench.command import CONSOLE, environment
from pipeline.core.errors import BenchFailed
from pipeline.core.values import plain
from pipeline.engines import http
from pipeline.machine import process
from pipeline.machine.companion import Companion

CANCEL_S = 5.0


class Resident:
    """One driver process for all trials of this process; a dead driver is replaced at the next level."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.driver: Companion | None = None
        self.awaited: set[str] = set()  # what the driver has yet to say before a level can start at once
        self.count = 0
        self.tokenizer: Path | None = None

    def start(self, tokenizer_dir: Path | None = None) -> None:
        """Start the import of genai-bench and the loading of the tokenizer, without waiting."""
        wanted = tokenizer_dir or self.tokenizer
        if self.driver is None or not self.driver.is_alive:
            self.close()
            self.driver = Companion("pipeline.bench.driver", log=self.log, env=environment(os.environ))
            self.awaited, self.tokenizer = {"ready"}, None
        if wanted and wanted != self.tokenizer:
            self.tokenizer = wanted
            self.awaited.add(str(wanted))
            self.driver.send({"op": "tokenizer", "dir": str(wanted)})

    def wait_ready(self, *, timeout_s: float, watch: Watch) -> None:
        """Return when genai-bench is imported and the tokenizer loaded.

        Raises:
            BenchFailed: it was not within `timeout_s`, or the driver ended.
        """
        end = time.monotonic() + timeout_s
        while self.awaited:
            event = self._answer(end, watch)
            if event is None:
                raise BenchFailed(f"The genai-bench runner did not start; see {self.log}.")
            self.awaited.discard(event.get("dir", event["event"]))

    def run(self, job: Job, watch: Watch) -> Outcome:
        """Run one level in a forked child.

        Raises:
            BenchFailed: the driver cannot be started.
        """
        self.start()
        self.wait_ready(timeout_s=job.timeout_s, watch=watch)
        job.folder.mkdir(parents=True, exist_ok=True)
        self.count += 1
        start = time.monotonic()
        self._send(
            op="level",
            id=self.count,
            argv=job.argv,
            seed=job.seed,
            max_time_s=job.max_time_s,
            drain_s=job.drain_s,
            max_requests=job.max_requests,
            users=job.users,
            times=job.times,
            rate=job.rate,
            max_in_flight=job.max_in_flight,
            workers=job.workers,
            ledger=str(job.folder / ledger.NAME),
            console=str(job.folder / CONSOLE),
            api_key=http.api_key(),
            env=http.trust(),
            chosen=plain(job.chosen) if job.chosen else None,
            warms=job.warms,
        )
        try:
            event = self._wait_done(start + job.timeout_s, watch)
        except BaseException:
            self._cancel()
            raise
        elapsed = time.monotonic() - start
        if event is None:
            self._cancel()
            return Outcome(exit_code=None, error=self._silence(job, elapsed), elapsed_s=elapsed)
        return Outcome(exit_code=event["exit_code"], error=_words(event), elapsed_s=elapsed)

    def close(self) -> None:
        """End the driver; its children die with it."""
        driver, self.driver = self.driver, None
        if driver:
            driver.close()

    def _silence(self, job: Job, elapsed_s: float) -> str:
        if elapsed_s >= job.timeout_s:
            return f"genai-bench did not end within {job.timeout_s:g} s and was stopped"
        return f"the genai-bench runner died; see {self.log}"

    def _wait_done(self, end: float, watch: Watch) -> dict[str, Any] | None:
        while (event := self._answer(end, watch)) is not None:
            if event.get("id") == self.count:
                return event
        return None

    def _cancel(self) -> None:
        """Stop the running child and hear its end, so that the next level starts clean; else drop the driver."""
        self._send(op="cancel")
        if self._wait_done(time.monotonic() + CANCEL_S, lambda: None) is None:
            self.close()

    def _send(self, **command: Any) -> None:
        if self.driver:
            self.driver.send(command)

    def _answer(self, end: float, watch: Watch) -> dict[str, Any] | None:
        """The driver's next answer; None when it is silent until `end` or gone."""
        return self.driver.answer(timeout_s=end - time.monotonic(), watch=watch) if self.driver else None


def _words(event: dict[str, Any]) -> str | None:
    code = event["exit_code"]
    if code == 0:
        return None
    if event.get("error"):
        return str(event["error"])
    how = process.signal_name(-code) if code < 0 else f"exit code {code}"
    return f"genai-bench ended early: {how}"
