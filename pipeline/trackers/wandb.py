"""Weights & Biases: one run per trial, in a group per sweep, offline unless a key is there.

Each publication has its own service process (wandb-core), gone when publish() returns: nothing of ours runs
beside the next measurement, and the engine does not inherit WANDB_SERVICE. That costs 0.2 s per trial.
"""

import netrc
import os
import re
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from urllib.parse import urlsplit

from pipeline import config as conf
from pipeline import metrics, process
from pipeline.errors import TrackerFailed
from pipeline.record import Level, Record, RunDir
from pipeline.redact import Secrets
from pipeline.values import plain

Mode = Literal["online", "offline", "disabled"]
GRACE_S = 2.0  # for wandb to finish when publishing was broken off; then its process is killed
MAX_NAME, MAX_TAG = 128, 64  # W&B's limits
FILES = ("record.json", "metrics.json", "plan.json", "lease.json", "server.log", "pipeline.log")
RESULTS = "*/*/*_time_*s.json"  # below bench/
GROUPS = ("runtime", "model", "backend", "traffic", "hardware", "slo")
TABLE = ("scenario", "concurrency", "status", "reason", "warnings", "elapsed_s")
UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")  # in an artifact's name
# A user's shell may be inside another run; its identity is not ours to continue.
FOREIGN = ("WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SWEEP_ID", "WANDB_NOTES")
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


class WandB:
    """Publishes each record as a W&B run. `dir` is the sweep's folder: offline runs lie in <sweep>/wandb/."""

    def publish(self, record: Record, config: conf.Tracker, run_dir: RunDir) -> str | None:
        """Publish; see trackers.Tracker."""
        if choose_mode(config.mode, user=os.environ.get("WANDB_MODE"), has_key=False) == "disabled":
            return None  # without importing wandb
        try:
            return _publish(record, config, RunDir(run_dir.path.resolve()))
        except TrackerFailed:
            raise
        except (Exception, SystemExit) as error:  # SystemExit: how wandb says that wandb-core ended badly
            raise TrackerFailed(f"W&B did not take the record: {type(error).__name__}: {error}") from error


def choose_mode(asked: str, *, user: str | None, has_key: bool) -> Mode:
    """What was asked for; `auto` follows the user's WANDB_MODE, else it is online if there is a key."""
    wanted = user if asked == "auto" else asked
    if wanted == "disabled":
        return "disabled"
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


def _publish(record: Record, config: conf.Tracker, run_dir: RunDir) -> str:
    run_id = uuid.uuid4().hex[:12]
    sweep = run_dir.path.parent
    home = sweep / "wandb" / "staging" / run_id
    secrets = Secrets(os.environ)
    _stage(run_dir, home / "files", secrets)
    with _session(home, label=f"tracker-{run_id}") as wandb:
        has_key = _has_key(wandb)
        mode = choose_mode(config.mode, user=os.environ.get("WANDB_MODE"), has_key=has_key)
        if mode == "online" and not has_key:
            raise TrackerFailed("W&B needs an API key.", hint="Run `wandb login`, or set tracker.mode=offline.")
        run = wandb.init(
            id=run_id,
            dir=str(sweep),
            mode=mode,
            project=config.project,
            entity=config.entity,
            group=secrets.hide(record.sweep_id),
            job_type="trial",
            name=secrets.hide(_name(record))[:MAX_NAME],
            tags=[tag[:MAX_TAG] for tag in secrets.hide(_tags(record))],
            config=secrets.hide(_config(record)),
            settings=wandb.Settings(**QUIET, init_timeout=config.timeout_s, finish_timeout=config.timeout_s),
        )
        _fill(wandb, run, record, secrets)
        name = UNSAFE.sub("-", f"trial-{secrets.hide(record.trial_id)}")[:MAX_NAME]
        artifact = wandb.Artifact(name, "trial")
        artifact.add_dir(str(home / "files"), policy="immutable", skip_cache=True)  # not copied once more
        run.log_artifact(artifact)
        where = str(run.url) if mode == "online" else str(run.settings.sync_dir)
        run.finish(exit_code=0 if record.status == "ok" else 1)
    if mode == "online":
        shutil.rmtree(home, ignore_errors=True)
    return where


def _has_key(wandb: ModuleType) -> bool:
    found = wandb.setup().settings
    return bool(found.api_key or found.identity_token_file) or has_netrc_key(found.base_url, os.environ)


@contextmanager
def _session(home: Path, *, label: str) -> Iterator[ModuleType]:
    """Wandb with a service process that is gone afterwards: found by its label if wandb lost track of it."""
    hooks = sys.exit, sys.excepthook  # wandb wraps them at each start of its service, and never unwraps
    with _environment(home, label):
        try:
            import wandb

            yield wandb
            wandb.teardown()
        except BaseException:
            _abandon(label)
            raise
        finally:
            sys.exit, sys.excepthook = hooks


@contextmanager
def _environment(home: Path, label: str) -> Iterator[None]:
    """Set wandb's variables for the length of one publication; its files stay inside the sweep's folder."""
    ours = {
        process.LABEL: label,
        "WANDB_DATA_DIR": str(home),
        "WANDB_CACHE_DIR": str(home.parent.parent / "cache"),
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": os.environ.get("WANDB_ERROR_REPORTING", "false"),
    }
    names = (*ours, *FOREIGN)
    before = {name: os.environ[name] for name in names if name in os.environ}
    try:
        for name in FOREIGN:
            os.environ.pop(name, None)
        os.environ.update(ours)
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


def _abandon(label: str) -> None:
    """Finish what can be finished within GRACE_S, then stop wandb's process. Never raises an Exception."""
    with process.signals_held():
        # finish() waits for uploads: the timer ends that wait by killing the process on the other side.
        timer = threading.Timer(GRACE_S, process.stop_labelled, (label,), {"grace_s": 0.5})
        timer.start()
        with suppress(Exception, SystemExit):  # the first error is the one to tell
            if wandb := sys.modules.get("wandb"):
                wandb.finish(exit_code=1)
                wandb.teardown(exit_code=1)
        process.stop_labelled(label, grace_s=0.5)
        timer.cancel()


def _stage(run_dir: RunDir, folder: Path, secrets: Secrets) -> None:
    """Redacted copies of what is uploaded. Offline runs refer to them until `wandb sync`, so they stay."""
    folder.mkdir(parents=True)
    for source in (*(run_dir.path / name for name in FILES), *run_dir.bench.glob(RESULTS)):
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
        "teardown_clean": record.teardown.is_clean if record.teardown else None,
        **(record.objective or {}),
        **{f"best/{name}": seen for name, seen in flat.items()},
        **{f"steps/{timing.step}_s": timing.seconds for timing in record.steps},
    }
    return {name: seen for name, seen in found.items() if seen is not None}
