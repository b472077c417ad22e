"""The process that talks to wandb: `python -m pipeline.trackers.wandb_publisher`, spoken to by `wandb.py`.

A process of its own, because wandb can hang where no signal reaches it, wraps sys.exit and starts a service: here all
of that can be ended. wandb is imported once; each publication has a service of its own, gone when it returns, so that
nothing of ours runs beside the next measurement.
"""

import importlib
import json
import netrc
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pipeline.core.errors import PipelineError, TrackerFailed
from pipeline.core.files import RunDir, SweepDir
from pipeline.core.redact import MAX_FILE_BYTES, Secrets
from pipeline.core.values import from_json, plain
from pipeline.machine import companion
from pipeline.trackers import wandb_away, wandb_report, wandb_sweep, wandb_trial
from pipeline.trackers.jobs import Answer, Request, TrialJob
from pipeline.trackers.wandb_content import Content, sweep_key

MAX_DATA_BYTES = 1_000_000_000
Mode = Literal["online", "offline"]
QUIET: Mapping[str, Any] = {
    "silent": True,
    "console": "off",
    "save_code": False,
    "disable_git": True,
    "label_disable": True,
    "x_disable_meta": True,  # it would hold our command line
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "finish_timeout_raises": True,
}


class _RefusedError(Exception):
    """W&B was asked, and did not take a run."""


def main() -> None:
    """Say `{"ready": true}`; answer each Request on stdin with an Answer."""
    companion.die_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what wandb prints must not be taken for an answer
    importlib.import_module("wandb")
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(plain(answer(from_json(Request, line)))) + "\n")


def answer(request: Request) -> Answer:
    """Do it; how it went, in words."""
    what = "record" if isinstance(request.job, TrialJob) else "sweep"
    try:
        return _do(request)
    except PipelineError as error:
        return Answer(error=str(error), hint=error.hint)
    except _RefusedError as error:
        return Answer(error=f"W&B did not accept the {what}: {error}", hint=TrackerFailed.hint, is_online=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - SystemExit is how wandb says that wandb-core ended badly
        words = f"W&B did not accept the {what}: {type(error).__name__}: {error}"
        return Answer(error=words, hint=TrackerFailed.hint)


def _do(request: Request) -> Answer:
    secrets, job = Secrets(os.environ), request.job
    if isinstance(job, TrialJob):
        sweep = SweepDir(job.run_dir.parent)
        content = wandb_trial.content(job.record, RunDir(job.run_dir), sweep_key(sweep, secrets))
        return _publish(content, request, sweep, secrets)
    sweep = SweepDir(job.sweep)
    key = sweep_key(sweep, secrets)
    if job.what == "run":
        return _publish(wandb_sweep.content(job.result, sweep, key), request, sweep, secrets)
    return _report(wandb_report.source(job.result, job.tracker, key, secrets), request, sweep)


def choose_mode(asked: str, *, user: str | None, has_key: bool) -> Mode:
    """What was asked for; `auto` follows the user's WANDB_MODE, else it is online if there is a key."""
    wanted = user if asked == "auto" else asked
    if wanted in {"offline", "dryrun"}:
        return "offline"
    return "online" if wanted in {"online", "run", "shared"} or has_key else "offline"


def has_netrc_key(base_url: str, environ: Mapping[str, str]) -> bool:
    """Whether the netrc file that wandb reads has an entry for the server. Asks nobody, changes nothing."""
    path = Path(environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        entry = netrc.netrc(path).authenticators(urlsplit(base_url).netloc)
    except (OSError, netrc.NetrcParseError):
        return False
    return bool(entry and entry[2])


def ask_key() -> tuple[bool, str]:
    """Whether wandb has a key, and the URL of the server that it would be for. Asks no server, leaves no process."""
    import wandb

    try:
        return _key()
    finally:
        wandb.teardown()


def _key() -> tuple[bool, str]:
    import wandb

    found = wandb.setup().settings
    has_key = bool(found.api_key or found.identity_token_file) or has_netrc_key(found.base_url, os.environ)
    return has_key, found.base_url


def _publish(content: Content, request: Request, sweep: SweepDir, secrets: Secrets) -> Answer:
    """One run with its artifact: a new one, or the one of that id continued. Its URL, or its folder when offline.

    Raises:
        TrackerFailed: it should go online and there is no key.
        _RefusedError: it should go online, and did not.
    """
    import wandb

    home = sweep.tracker / "staging" / uuid.uuid4().hex[:12]
    os.environ |= {"WANDB_DATA_DIR": str(home), "WANDB_CACHE_DIR": str(sweep.tracker / "cache")}
    _stage(content, home / "files", secrets)
    settings = wandb.Settings(**QUIET, init_timeout=request.patience_s, finish_timeout=request.patience_s)
    mode, config = _mode(request), request.job.tracker
    place: dict[str, Any] = {"dir": str(sweep.path), "mode": mode, "project": config.project, "entity": config.entity}
    with (
        _going(mode, content, sweep),
        wandb.init(**place, resume="allow", settings=settings, **content.identity(secrets)) as run,
    ):
        content.fill(wandb, run, secrets)
        artifact = wandb.Artifact(content.artifact_name(secrets), content.job_type)
        artifact.add_dir(str(home / "files"), policy="immutable", skip_cache=True)  # not copied once more
        run.log_artifact(artifact)
        where = str(run.url) if mode == "online" else str(run.settings.sync_dir)
        run.finish(exit_code=content.exit_code)
    wandb.teardown()  # ends the service: only then is an offline run wholly on disk
    wandb_away.end(sweep, content.run_id)
    if mode == "online":
        shutil.rmtree(home, ignore_errors=True)
    return Answer(where=where, is_online=mode == "online")


@contextmanager
def _going(mode: Mode, content: Content, sweep: SweepDir) -> Iterator[None]:
    """A run that goes online is noted until it is there. Raises _RefusedError where W&B does not take it."""
    if mode == "offline":
        yield
        return
    wandb_away.begin(sweep, content.run_id)
    try:
        yield
    except (Exception, SystemExit) as error:
        raise _RefusedError(f"{type(error).__name__}: {error}") from error


def _report(source: wandb_report.Source, request: Request, sweep: SweepDir) -> Answer:
    script = wandb_report.write_script(source, sweep)  # online as well: it stays if saving fails or takes too long
    if _mode(request) == "offline":
        return Answer(where=str(script))
    where = wandb_report.save(source, sweep)
    script.unlink()
    return Answer(where=where, is_online=True)


def _mode(request: Request) -> Mode:
    """Raises TrackerFailed where it should go online and there is no key."""
    if request.is_offline:
        return "offline"
    has_key, _ = _key()
    mode = choose_mode(request.job.tracker.mode, user=os.environ.get("WANDB_MODE"), has_key=has_key)
    if mode == "online" and not has_key:
        raise TrackerFailed("W&B needs an API key.", hint="Run `wandb login`, or set tracker.mode=offline.")
    return mode


def _stage(content: Content, folder: Path, secrets: Secrets) -> None:
    """Redacted copies of what is uploaded. Offline runs refer to them until `wandb sync`, so they stay."""
    folder.mkdir(parents=True)
    for source, name in content.files:
        is_log = source.suffix == ".log"  # its end says most; half of a JSON file or page says nothing
        secrets.copy(source, folder / name, limit=MAX_FILE_BYTES if is_log else MAX_DATA_BYTES)


if __name__ == "__main__":
    main()
