"""A gateway of the tests: leads /NAMESPACE/NAME/... to port 8080 of the engine's pod, as an Ingress would."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from parts.kube_api import Api

PORT = 8080


class Gateway(BaseHTTPRequestHandler):
    """Knows no name but those of pods, and asks the API server each time."""

    api: Api

    def do_GET(self) -> None:
        self.lead()

    def do_POST(self) -> None:
        self.lead()

    def lead(self) -> None:
        _, namespace, name, rest = self.path.split("/", 3)
        found = self.api.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"ome.io/inferenceservice={name}")
        if not found:
            self.send_error(404, f"there is no pod of {namespace}/{name}")
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with closing(http.client.HTTPConnection(found[0]["status"]["podIP"], PORT, timeout=30)) as engine:
            try:
                engine.request(self.command, f"/{rest}", body, dict(self.headers))
                answer = engine.getresponse()
                told = answer.read()
            except OSError as error:
                self.send_error(502, str(error))
                return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type") or "text/plain")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Keep the log for what matters."""


@contextmanager
def serving(api: Api) -> Iterator[str]:
    """Its URL, until the end of the scope."""
    handler = type("Handler", (Gateway,), {"api": api})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
