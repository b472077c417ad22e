"""`python -m pipeline ...` as a fork of a process that has imported it: a start costs 0.05 s instead of a second.

The fork runs the module's own `__main__` with the command's words, environment, folder and output files. Run as a
program, this file is the server. A command that asks for another interpreter start (a sitecustomize, a PYTHON*
variable) is started in the plain way.
"""

import array
import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn

from support import configuration
from support.places import ROOT

PRELOADED = (
    "pipeline.__main__",
    "pipeline.backends.keeper",
    "pipeline.backends.local",
    "pipeline.bench.cli",
    "pipeline.recheck",
    "pipeline.report.importance",
    "pipeline.report.page",
    "pipeline.report.plots",
    "pipeline.sweep.launchers.parallel",
    "pipeline.sweep.tuner.sweeper",
    "pipeline.trackers.none",
    "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper",
    "optuna.importance",
    "pandas",
    "plotly.graph_objects",
    "pyarrow.parquet",
    "sqlalchemy.dialects.sqlite",
)
OWN = ("PYTHONPATH", "PYTHONUNBUFFERED")  # the variables of Python's that a fork can follow


class Server:
    """One for each process that runs tests, started when it is first needed; it ends with us."""

    def __init__(self) -> None:
        self.line, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)  # a message is read as it was sent
        with theirs:
            self.child = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},  # no test's own
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.close)

    def run(self, request: Mapping[str, Any], out: IO[str], err: IO[str], timeout_s: float) -> int:
        """The exit code of the command, as subprocess gives it."""
        socket.send_fds(self.line, [json.dumps(request).encode()], [out.fileno(), err.fileno()])
        pid = int(self.line.recv(32))
        self.line.settimeout(timeout_s)
        try:
            return int(self.line.recv(32))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(request["argv"]), timeout_s) from None
        finally:
            self.line.settimeout(None)

    def close(self) -> None:
        """It ends with the line."""
        self.line.close()
        self.child.wait()


_servers: dict[int, Server] = {}  # by our own pid: xdist's workers are forks of nobody, but a test may fork


def servers() -> set[int]:
    """The process ids of the servers that are there."""
    return {server.child.pid for server in _servers.values()}


def run(
    argv: Sequence[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None, timeout_s: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run `[sys.executable, "-m", MODULE, ...]` to its end; what it said.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    env = dict(os.environ if env is None else env)
    if list(argv[:2]) != [sys.executable, "-m"] or not _can_follow(env):
        return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
    server = _servers.get(os.getpid()) or _servers.setdefault(os.getpid(), Server())
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        code = server.run({"argv": list(argv), "cwd": str(cwd), "env": env}, out, err, timeout_s)
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(list(argv), code, out.read(), err.read())


def _can_follow(env: Mapping[str, str]) -> bool:
    places = [Path(place) for place in env.get("PYTHONPATH", "").split(os.pathsep) if place]
    is_plain = all(name in OWN for name in env if name.startswith("PYTHON"))
    return is_plain and not any((place / "sitecustomize.py").exists() for place in places)


def main() -> None:
    """Serve until the line is closed."""
    line = socket.socket(fileno=int(sys.argv[1]))
    for name in PRELOADED:
        import_module(name)
    import_module("hydra.core.plugins").Plugins.instance()
    configuration.read()
    gc.freeze()
    while True:
        data, files, _, _ = socket.recv_fds(line, 1 << 20, 2)
        if not data:
            return
        pid = os.fork()
        if pid == 0:
            line.close()
            _become(json.loads(data), array.array("i", files))
        for file in files:
            os.close(file)
        line.send(str(pid).encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        line.send(str(code).encode())


def _become(request: Mapping[str, Any], files: Sequence[int]) -> NoReturn:
    for handle, file in zip((1, 2), files, strict=True):
        os.dup2(file, handle)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    own = [place for place in request["env"].get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:] = [request["cwd"], *own, *sys.path[3:]]  # three: this file's folder, and what Server put before
    _, _, module, *words = request["argv"]
    sys.argv, sys.orig_argv = [module, *words], list(request["argv"])
    program = f"{module}.__main__" if hasattr(sys.modules.get(module), "__path__") else module
    sys.modules.pop(program, None)  # it runs anew, and says so if it was imported
    code: object = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
    finally:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
