"""The process that talks to wandb: `python -m pipeline.trackers.wandb_publisher`, spoken to by `wandb.py`.

A process of its own, because wandb can hang where no signal reaches it, wraps sys.exit and starts a service: here all
of that can be ended. wandb is imported once; each publication has a service of its own, gone when it returns, so that
nothing of ours runs beside the next measurement.
"""

import importlib
import json
import netrc
import os
import re
import shutil
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from urllib.parse import urlsplit

from pipeline import companion, metrics, schema
from pipeline.errors import PipelineError, TrackerFailed
from pipeline.files import RunDir
from pipeline.record import Level, Record
from pipeline.redact import Secrets
from pipeline.values import from_json, plain, value

Mode = Literal["online", "offline"]
MAX_NAME, MAX_TAG = 128, 64  # W&B's limits
RESULTS = "*/*/*_time_*s.json"  # below bench/
GROUPS = ("runtime", "model", "backend", "traffic", "hardware", "slo")
TABLE = ("scenario", "concurrency", "status", "reason", "warnings", "elapsed_s")
UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")  # in an artifact's name
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


@value
class Job:
    """One publication."""

    record: Record
    tracker: schema.Tracker
    run_dir: Path


def main() -> None:
    """Say `{"ready": true}`; answer each Job on stdin with `{"where": ...}` or `{"error": ..., "hint": ...}`."""
    companion.die_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what wandb prints must not be taken for an answer
    importlib.import_module("wandb")
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(answer(from_json(Job, line))) + "\n")


def answer(job: Job) -> dict[str, str]:
    """Publish; how it went, in words."""
    try:
        return {"where": publish(job.record, job.tracker, RunDir(job.run_dir))}
    except PipelineError as error:
        return {"error": str(error), "hint": error.hint}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - SystemExit is how wandb says that wandb-core ended badly
        words = f"W&B did not take the record: {type(error).__name__}: {error}"
        return {"error": words, "hint": TrackerFailed.hint}


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


def publish(record: Record, config: schema.Tracker, run_dir: RunDir) -> str:
    """Publish a trial as one run; its URL, or its folder when offline.

    Raises:
        TrackerFailed: it should go online and there is no key.
    """
    import wandb

    run_id = uuid.uuid4().hex[:12]
    sweep = run_dir.path.parent
    home = sweep / "wandb" / "staging" / run_id
    os.environ |= {"WANDB_DATA_DIR": str(home), "WANDB_CACHE_DIR": str(sweep / "wandb" / "cache")}
    secrets = Secrets(os.environ)
    _stage(run_dir, home / "files", secrets)
    settings = wandb.Settings(**QUIET, init_timeout=config.timeout_s, finish_timeout=config.timeout_s)
    mode = _mode(wandb, config)
    place: dict[str, Any] = {
        "id": run_id,
        "dir": str(sweep),
        "mode": mode,
        "project": config.project,
        "entity": config.entity,
    }
    with wandb.init(**place, job_type="trial", settings=settings, **secrets.hide(_identity(record))) as run:
        _fill(wandb, run, record, secrets)
        name = UNSAFE.sub("-", f"trial-{secrets.hide(record.trial_id)}")[:MAX_NAME]
        artifact = wandb.Artifact(name, "trial")
        artifact.add_dir(str(home / "files"), policy="immutable", skip_cache=True)  # not copied once more
        run.log_artifact(artifact)
        where = str(run.url) if mode == "online" else str(run.settings.sync_dir)
        run.finish(exit_code=0 if record.status == "ok" else 1)
    wandb.teardown()  # ends the service: only then is an offline run wholly on disk
    if mode == "online":
        shutil.rmtree(home, ignore_errors=True)
    return where


def _mode(wandb: ModuleType, config: schema.Tracker) -> Mode:
    found = wandb.setup().settings
    has_key = bool(found.api_key or found.identity_token_file) or has_netrc_key(found.base_url, os.environ)
    mode = choose_mode(config.mode, user=os.environ.get("WANDB_MODE"), has_key=has_key)
    if mode == "online" and not has_key:
        raise TrackerFailed("W&B needs an API key.", hint="Run `wandb login`, or set tracker.mode=offline.")
    return mode


def _identity(record: Record) -> dict[str, Any]:
    return {
        "group": record.sweep_id,
        "name": _name(record)[:MAX_NAME],
        "tags": [tag[:MAX_TAG] for tag in _tags(record)],
        "config": _config(record),
    }


def _stage(run_dir: RunDir, folder: Path, secrets: Secrets) -> None:
    """Redacted copies of what is uploaded. Offline runs refer to them until `wandb sync`, so they stay."""
    folder.mkdir(parents=True)
    files = (run_dir.record, run_dir.metrics, run_dir.plan, run_dir.lease, run_dir.server_log, run_dir.pipeline_log)
    for source in (*files, *run_dir.bench.glob(RESULTS)):
        if source.is_file():
            secrets.copy(source, folder / source.relative_to(run_dir.path))


def _fill(wandb: ModuleType, run: Any, record: Record, secrets: Secrets) -> None:
    run.define_metric("concurrency", hidden=True, summary="none")
    for scenario in dict.fromkeys(level.scenario for level in record.levels):
        run.define_metric(f"{scenario}/*", step_metric="concurrency", summary="none")
    for level in record.levels:
        if level.status == "ok" and level.metrics:
            run.log(secrets.hide(_point(level)))
    rows = [secrets.hide(_row(level)) for level in record.levels]
    run.log({"levels": wandb.Table(columns=list(TABLE), data=rows)})
    run.summary.update(secrets.hide(_summary(record)))


def _name(record: Record) -> str:
    words = " ".join(record.overrides) or ("baseline" if record.is_baseline else "")
    return f"{record.number} {words}".strip()


def _tags(record: Record) -> list[str]:
    names = (record.config.runtime.name, record.config.model.name, record.status)
    tags = [*names, "baseline" if record.is_baseline else ""]
    return [tag for tag in dict.fromkeys(tags) if tag]


def _config(record: Record) -> dict[str, Any]:
    """Knobs and choices under their own names, to sort and group by; the whole under `config`."""
    config = record.config
    names = {group: getattr(config, group).name for group in GROUPS}
    trial = {"trial_id": record.trial_id, "number": record.number, "overrides": record.overrides}
    return {**trial, **names, **config.knobs, "config": plain(config)}


def _point(level: Level) -> dict[str, float]:
    flat = metrics.flatten(level.metrics) if level.metrics else {}
    return {
        "concurrency": level.concurrency,
        **{f"{level.scenario}/{name}": seen for name, seen in flat.items()},
    }


def _row(level: Level) -> list[Any]:
    reason = f"{level.failure.kind}: {level.failure.message}" if level.failure else ""
    return [
        level.scenario,
        level.concurrency,
        level.status,
        reason,
        "; ".join(level.warnings),
        level.elapsed_s,
    ]


def _summary(record: Record) -> dict[str, Any]:
    best = next((level for level in record.levels if level.name == record.best_level), None)
    flat = metrics.flatten(best.metrics) if best and best.metrics else {}
    found = {
        "status": record.status,
        "failure_kind": record.failure.kind.value if record.failure else None,
        "failure": record.failure.message if record.failure else None,
        "best_level": record.best_level,
        "verdict": record.verdict.word if record.verdict else None,
        "findings": "; ".join(finding.reason for finding in record.verdict.findings) if record.verdict else None,
        "same_as": record.same_as,
        **{f"resolved/{item.knob}": item.got for item in record.rewrites},
        "teardown_clean": record.teardown.is_clean if record.teardown else None,
        **(record.objective or {}),
        **{f"best/{name}": seen for name, seen in flat.items()},
        **{f"steps/{timing.step}_s": timing.seconds for timing in record.steps},
    }
    return {name: seen for name, seen in found.items() if seen is not None}


if __name__ == "__main__":
    main()
