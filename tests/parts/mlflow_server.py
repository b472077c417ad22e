"""A real MLflow server on loopback, as a process of its own: `mlflow server` with SQLite and its own artifact store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from parts.llama import free_port
from pipeline.machine import process

START_S = 120.0  # it makes the tables of its database first
API = "api/2.0/mlflow"


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    url: str

    def runs(self, experiment: str = "servetune") -> list[dict[str, Any]]:
        """The runs that are there, oldest first: tags, params and last metrics as dicts."""
        found = self._ask("experiments/get-by-name", experiment_name=experiment)["experiment"]
        body = {"experiment_ids": [found["experiment_id"]], "order_by": ["attributes.start_time ASC"]}
        answer = requests.post(f"{self.url}/{API}/runs/search", json=body, timeout=30)
        return [_flat(run) for run in answer.json().get("runs", [])]

    def history(self, run: str, metric: str) -> list[tuple[int, float]]:
        """(step, value) of a metric."""
        told = self._ask("metrics/get-history", run_id=run, metric_key=metric)["metrics"]
        return [(int(one.get("step", 0)), one["value"]) for one in told]

    def files(self, run: str, path: str = "") -> list[str]:
        """The paths of a run's artifacts."""
        told = self._ask("artifacts/list", run_id=run, path=path).get("files", [])
        inner = (self.files(run, one["path"]) if one.get("is_dir") else [one["path"]] for one in told)
        return sorted(each for some in inner for each in some)

    def text(self, run: str, path: str) -> str:
        """An artifact."""
        answer = requests.get(f"{self.url}/get-artifact", params={"run_id": run, "path": path}, timeout=30)
        answer.raise_for_status()
        return answer.text

    def _ask(self, what: str, **words: str) -> dict[str, Any]:
        answer = requests.get(f"{self.url}/{API}/{what}", params=words, timeout=30)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told


def _flat(run: dict[str, Any]) -> dict[str, Any]:
    info, data = run["info"], run["data"]
    found = {name: {one["key"]: one["value"] for one in data.get(name, [])} for name in ("params", "tags", "metrics")}
    return {"id": info["run_id"], "name": info["run_name"], "status": info["status"], "info": info, **found}


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve until the end of the scope; database, artifacts and log lie in the folder."""
    port = free_port()
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "store")]
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    env = {name: text for name, text in env.items() if name != "MLFLOW_TRACKING_URI"}
    log = folder / "server.log"
    with log.open("wb") as out:
        program = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=folder,
            env=env,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    made = Server(f"http://127.0.0.1:{port}")
    try:
        ended = process.wait_until(lambda: program.poll() is not None or _is_ready(made), timeout_s=START_S)
        assert ended, "not ready in time"
        assert program.poll() is None, log.read_text()
        yield made
    finally:
        process.kill_group(program.pid)
        program.wait()


def _is_ready(server: Server) -> bool:
    try:
        return requests.get(f"{server.url}/health", timeout=5).ok
    except requests.ConnectionError:
        return False
