"""A small W&B server on loopback: GraphQL, file streams and uploads, as far as wandb's own client asks for them here.

It shows what a client sends, and in which order it asks. It does not show that W&B would draw it, nor that W&B takes
every field: that needs an account.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4
OPERATION = re.compile(r"(?:query|mutation)\s+(\w+)")


class Server:
    """What it was told: runs by id, with their history lines and how often they began; artifacts; reports."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, dict[int, str]] = {}
        self.uploads: dict[str, bytes] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.reports: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.refused: set[str] = set()  # operations that find the server in trouble
        self.url = ""

    def answer(self, body: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """What is answered to a GraphQL request, and the status."""
        found = OPERATION.search(body["query"])
        name = found[1] if found else ""
        self.asked.append(name)
        if name in self.refused:
            return {"errors": [{"message": f"{name} is refused"}], "data": None}, 400
        ask = getattr(self, f"_{name}", None)
        return {"data": ask(body.get("variables") or {}) if ask else {}}, 200

    def _Viewer(self, _given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - as W&B's client names it
        return {"viewer": {"id": "u", "entity": "team", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    def _GetDefaultEntity(self, _given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"viewer": {"id": "u", "entity": "team"}}

    def _GetProjects(self, _given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        names = dict.fromkeys(run["project"] for run in self.runs.values())
        nodes = [{"id": name, "name": name, "entityName": "team", "createdAt": "", "user": None} for name in names]
        edges = [{"node": {**node, "isBenchmark": False}} for node in nodes]
        return {"models": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}

    def _ArtifactType(self, _given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": {"artifact": None}}

    def _ServerFeaturesQuery(self, _given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.get(given["name"])
        lines = self.history.get(given["name"], {})
        bucket = run and {
            "name": run["name"],
            "displayName": run.get("displayName"),
            "summaryMetrics": run.get("summaryMetrics") or "{}",
            "config": run.get("config") or "{}",
            "logLineCount": 0,
            "historyLineCount": len(lines),
            "eventsLineCount": 0,
            "historyTail": json.dumps([lines[max(lines)]] if lines else []),
            "eventsTail": "[]",
            "tags": run.get("tags") or [],
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
        entity = {"name": given.get("entity") or "team"}
        return {"model": {"name": given["project"], "entity": entity, "bucket": bucket}}

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = given["name"]
        is_new = name not in self.runs
        run = self.runs.setdefault(name, {})
        run.update({key: item for key, item in given.items() if item is not None})
        project = {"id": "p", "name": run["project"], "entity": {"id": "e", "name": run.get("entity", "team")}}
        bucket = {"id": name, "name": name, "displayName": run.get("displayName"), "description": "", "config": "{}"}
        bucket |= {"sweepName": None, "project": project, "historyLineCount": len(self.history.get(name, {}))}
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        files = [{"name": file, "uploadUrl": f"{self.url}/up/{given['run']}/{file}"} for file in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.artifacts.append(given["input"])
        made = {"id": f"artifact-{len(self.artifacts)}", "state": "PENDING"}
        return {"createArtifact": {"artifact": {**made, "artifactSequence": {"id": "s", "latestArtifact": None}}}}

    def _CreateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        url = f"{self.url}/up/{given['artifactID']}/manifest.json"
        file = {"id": "f", "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def _CreateArtifactFiles(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        edges = [
            {
                "node": {
                    "id": "f",
                    "name": file["name"],
                    "displayName": file["name"],
                    "storagePath": f"{file['artifactID']}/{file['name']}",
                    "uploadUrl": f"{self.url}/up/{file['artifactID']}/{file['name']}",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": file["artifactID"]},
                }
            }
            for file in given["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "d"}}}

    def _upsertView(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        number = given.get("id") or f"report{len(self.reports)}"
        is_new = number not in self.reports
        self.reports[number] = given
        project = {"id": "p", "name": given["projectName"], "entityName": given["entityName"]}
        view = {"id": number, "type": given["type"], "name": given["name"], "displayName": given["displayName"]}
        view |= {"description": given["description"], "project": project, "spec": given["spec"], "updatedAt": None}
        return {"upsertView": {"view": view, "inserted": is_new}}


@contextmanager
def serving() -> Iterator[Server]:
    """One, on a port of its own."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self._body()
            if self.path == "/graphql":
                self._say(*state.answer(body))
                return
            run = self.path.split("/")[-2]
            lines = body.get("files", {}).get("wandb-history.jsonl")
            if lines:
                new = {lines["offset"] + index: text for index, text in enumerate(lines["content"])}
                state.history.setdefault(run, {}).update(new)
            self._say({})

        def do_PUT(self) -> None:
            state.uploads[self.path.removeprefix("/up/")] = self.rfile.read(int(self.headers["Content-Length"]))
            self._say({})

        def do_GET(self) -> None:
            self._say({})

        def _body(self) -> dict[str, Any]:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            data: dict[str, Any] = json.loads(gzip.decompress(body) if packed else body)
            return data

        def _say(self, answer: dict[str, Any], code: int = 200) -> None:
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_words: object) -> None:
            """Quiet."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_words: Any) -> None:
            """A client that ends closes its connections as it likes."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
