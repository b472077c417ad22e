"""The far end of the fault injection: a program that runs the pipeline, broken where it is told, in forked children.

It imports the pipeline once and forks per request, because the imports take longer than a trial with the stand-ins.
A child is the leader of a session of its own and becomes `python -m pipeline ARGV`. Nothing is replaced elsewhere: the
keeper, the engine and the bench are processes that start from the unbroken files.

Requests and answers are JSON lines: {"argv", "env", "faults", "constants", "folder"} -> {"pid"}, {"wait": pid} ->
{"code"}. Faults by step: `raise`, `hang` (for ever), `pause` (writes STEP.reached, goes on when STEP.go exists).
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from docker.models.containers import Container, ContainerCollection
from hydra.core.plugins import Plugins

from pipeline import __main__ as command
from pipeline.backends import container_removal, docker, keeper, teardown
from pipeline.backends.docker import Docker
from pipeline.backends.kube import removal as kube_removal
from pipeline.backends.local import Local
from pipeline.backends.ome import Ome
from pipeline.bench import cli  # noqa: F401 - imported here, once, not in every fork
from pipeline.core import files
from pipeline.trackers.none import Off
from pipeline.trial import health, preflight, run, story
from pipeline.trial.levels import Ladder

BEFORE, AFTER = True, False
STEPS: dict[str, tuple[tuple[Any, ...], str, bool]] = {
    "preflight": ((preflight,), "run", BEFORE),
    "model": ((preflight,), "fetch", BEFORE),
    "lease": ((keeper,), "start", BEFORE),
    "deploy": ((Local, Docker, Ome), "deploy", BEFORE),
    "create": ((ContainerCollection,), "create", BEFORE),  # the daemon has answered and is not asked for one yet
    "created": ((Container,), "start", BEFORE),  # there is a container, and it does not run yet
    "deployed": ((Local, Docker, Ome), "deploy", AFTER),
    "health": ((health,), "wait_ready", BEFORE),
    "listener": ((Local, Docker, Ome), "owns_listener", BEFORE),  # it answers, and nobody knows yet whether it is ours
    "warmup": ((health,), "warm_up", BEFORE),
    "bench": ((Ladder,), "check", BEFORE),  # asked while genai-bench runs
    "teardown": ((teardown,), "run", BEFORE),
    "torn_down": ((teardown,), "run", AFTER),
    "record": ((files,), "save", BEFORE),
    "tracker": ((Off,), "publish", BEFORE),
}
CONSTANTS = (run, story, docker, container_removal, kube_removal)  # the modules that they may be changed in


def main() -> None:
    """Serve until stdin ends."""
    Plugins.instance()
    sys.path.append(str(Path(__file__).parents[1]))
    import_module("support.configuration").read()
    sys.path.pop()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"code": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
        else:
            answer = {"pid": os.fork() or become_pipeline(request)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def become_pipeline(request: dict[str, Any]) -> NoReturn:
    """`python -m pipeline ARGV`, broken, its output in files of the folder."""
    folder = Path(request["folder"])
    os.setsid()
    for handle, name in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), handle)
    os.environ.update(request["env"])
    sys.argv = ["pipeline", *request["argv"]]
    for name, number in request["constants"].items():
        for module in CONSTANTS:
            if hasattr(module, name):
                setattr(module, name, number)
    for step, fault in request["faults"].items():
        break_step(step, fault, folder)
    code = 1
    try:
        code = command.main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def break_step(step: str, fault: str, folder: Path) -> None:
    """Replace the function that the step consists of, wherever it is."""
    owners, name, is_before = STEPS[step]
    happen = FAULTS[fault]
    seen: list[str] = []

    def broken(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            is_other_file = step == "record" and args[0].name != "record.json"
            if seen or is_other_file:
                return original(*args, **kwargs)
            seen.append(step)
            if is_before:
                happen(step, folder)
                return original(*args, **kwargs)
            result = original(*args, **kwargs)
            happen(step, folder)
            return result

        return call

    for owner in owners:
        setattr(owner, name, broken(getattr(owner, name)))


def fail(step: str, _folder: Path) -> None:
    raise RuntimeError(f"{step} is broken on purpose")


def hang(_step: str, _folder: Path) -> None:
    while True:
        _wait()


def pause(step: str, folder: Path) -> None:
    (folder / f"{step}.reached").touch()
    while not (folder / f"{step}.go").exists():
        _wait()


def _wait() -> None:
    """A moment; the end if the tests are gone: nobody would end the pause."""
    time.sleep(0.01)
    if os.getppid() == 1:
        os._exit(1)


FAULTS: dict[str, Callable[[str, Path], None]] = {"raise": fail, "hang": hang, "pause": pause}


if __name__ == "__main__":
    main()
