"""Plays a cluster's DNS in every Python that has this folder on its path: `*.svc` are the names in `$STANDIN_HOSTS`."""

import os
import socket
from pathlib import Path
from typing import Any

ask = socket.getaddrinfo


def answer(host: Any, *words: Any, **named: Any) -> Any:
    """As a resolver does: a name is not known before it has an address."""
    if not str(host).endswith(".svc"):
        return ask(host, *words, **named)
    hosts = dict(line.split() for line in Path(os.environ["STANDIN_HOSTS"]).read_text().splitlines())
    if host not in hosts:
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is not known")
    return ask(hosts[host], *words, **named)


socket.getaddrinfo = answer
