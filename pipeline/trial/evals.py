"""Evaluations by lm-eval in a trial: whether they can be made here, and one of the running server.

A trial of `quality.evals.now` is evaluated instead of measured; `pipeline/evaluate.py` asks for those.
"""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import cache

from pipeline import backends
from pipeline.backends import Deployment
from pipeline.core.errors import BenchFailed, PreflightFailed
from pipeline.core.evaluation import FOLDER
from pipeline.core.files import RunDir
from pipeline.core.plan import Plan
from pipeline.core.schema import Config
from pipeline.core.schema_evals import Evals
from pipeline.engines import http, lm_eval
from pipeline.machine import process, signals
from pipeline.trial import health
from pipeline.trial.story import Story

LIST_S = 240.0  # for the index of thousands of tasks, on a busy machine
LOOK_S = 0.2
TAIL = 5  # lines of its log in a message


def check(config: Config) -> str:
    """Whether the environment has lm-eval, the tasks exist, and the engine can be asked what they ask.

    Raises:
        PreflightFailed: with what to change.
    """
    evals = config.quality.evals
    kinds = _kinds(evals)
    if unknown := [name for name, told in kinds.items() if told is None]:
        raise PreflightFailed(
            f"lm-eval {lm_eval.VERSION} knows no task {', '.join(unknown)}, and neither does "
            f"{lm_eval.tasks_folder(evals)}.",
            hint=f"{lm_eval.python(evals)} -m lm_eval ls tasks lists its own; a folder with other task files is "
            "quality.evals.include_path.",
        )
    asking = lm_eval.needs_logprobs(kinds)
    if told := _unaskable(config, asking):
        raise PreflightFailed(
            f"{told}: what lm-eval computes for this needs the log-probabilities of a given text.",
            hint="Name tasks whose output_type is generate_until in quality.evals.tasks, e.g. servetune_words.",
        )
    if asking and not _has_tokenizers(evals):
        raise PreflightFailed(
            f"{', '.join(asking)} needs the package transformers beside lm-eval, to cut texts into the model's tokens.",
            hint=f"Install it: uv pip install --python {lm_eval.python(evals)} transformers.",
        )
    return f"lm-eval, {', '.join(kinds)}"


def _has_tokenizers(evals: Evals) -> bool:
    code = "import importlib.util as it; raise SystemExit(it.find_spec('transformers') is None)"
    done = process.ask([str(lm_eval.python(evals)), "-c", code], env=lm_eval.env(evals, os.environ, None))
    return done.returncode == 0


def _unaskable(config: Config, names: Sequence[str]) -> str | None:
    """Which tasks cannot be asked of this engine, and why."""
    if names and config.quality.evals.chat:
        return f"quality.evals.chat=true cannot run {', '.join(names)}"
    if names and config.runtime.reads == "none":
        return f"runtime={config.runtime.name} cannot run {', '.join(names)}"
    return None


@cache
def _kinds(evals: Evals) -> Mapping[str, Sequence[str] | None]:
    """What each task asks of a model; asked once in a process."""
    program, folder = lm_eval.python(evals), lm_eval.tasks_folder(evals)
    if not folder.is_dir():
        raise PreflightFailed(
            f"quality.evals.include_path={folder} is no folder.", hint="Name the folder with your task files."
        )
    if not os.access(program, os.X_OK):
        raise PreflightFailed(
            f"quality.evals needs lm-eval in an environment of its own: {program} is not there.",
            hint=f"Make it: {lm_eval.how_to_make(evals)}. Or name the interpreter of another one: "
            "quality.evals.python. Or go without: quality=guard.",
        )
    env = lm_eval.env(evals, os.environ, None)
    try:
        done = process.ask(lm_eval.lists(evals), env=env, timeout_s=LIST_S)
        found: dict[str, list[str] | None] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        said = done.stderr.strip().splitlines()[-1:] if isinstance(error, ValueError | IndexError) else [str(error)]
        raise PreflightFailed(
            f"{program} cannot list the tasks of lm-eval: {''.join(said)}.",
            hint=f"It needs lm_eval {lm_eval.VERSION}: {lm_eval.how_to_make(evals)}.",
        ) from error
    return found


def run(story: Story, deployment: Deployment, planned: Plan) -> None:
    """Evaluate the running server; the story has the scores.

    Raises:
        BenchFailed: lm-eval failed, or left no result.
        ServerDied: the server ended meanwhile.
    """
    evals, run_dir = story.config.quality.evals, RunDir(planned.run_dir)
    with story.step("evals", timeout_s=evals.timeout_s):
        out = run_dir.path / FOLDER
        start, log = time.monotonic(), out / "lm-eval.log"
        out.mkdir(exist_ok=True)
        needs = bool(lm_eval.needs_logprobs(_kinds(evals)))
        argv = lm_eval.argv(
            evals, url=deployment.url, served_name=planned.served_name, out=out,
            tokenizer=planned.tokenizer_dir if needs else None,
        )  # fmt: skip
        env = {**lm_eval.env(evals, os.environ, http.api_key()), process.LABEL: deployment.lease.label}
        pid = process.spawn(argv, log=log, env=env, cwd=lm_eval.tasks_folder(evals))
        try:
            while (code := process.exit_code(pid)) is None:
                signals.check()
                health.check_alive(backends.load(planned.backend), deployment, run_dir.server_log)
                time.sleep(LOOK_S)
        finally:
            process.kill_group(pid)
        tail = " ".join(log.read_text("utf-8", errors="replace").split("\n")[-TAIL:]).strip()
        if code:
            raise BenchFailed(f"lm-eval ended with exit code {code}: {tail}", hint=f"Read {log}.")
        try:
            story.evaluation = lm_eval.read(out, time.monotonic() - start)
        except ValueError as error:
            raise BenchFailed(f"lm-eval left no result: {error}. {tail}", hint=f"Read {log}.") from error
