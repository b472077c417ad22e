"""cache=read: reuses an earlier measurement of exactly the same trial from another sweep.

Everything that can change the numbers must be equal: the configuration except deadlines and trackers, the knobs after
the rules, the CPU, the GPUs and their driver, the versions of engine and genai-bench. Images must be named by digest,
hub models by commit. A trial that shared its machine, or whose model files have changed since, is not reused.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.core import files, readable
from pipeline.core.places import cache_dir
from pipeline.core.record import Record
from pipeline.core.schema import Config
from pipeline.core.values import Scalar, plain
from pipeline.machine.environment import describe
from pipeline.machine.gpus import describe as describe_gpus
from pipeline.trial.story import Story

MACHINE = ("cpu", "cpu_count", "gpu", "gpu_driver", "genai-bench", "xllamacpp", "sglang", "vllm")
COMMIT = re.compile(r"[0-9a-f]{40}")
FORGET = {"keeper", "timeout_s", "start_timeout_s", "level_grace_s", "stop_grace_s", "deploy_s", "interval_s"}

KEYS = 3  # how keys are made; those that an earlier release has remembered are other ones

Index = dict[str, tuple[int, str]]  # a record's path: when it was written (ns), its key; empty: it may not answer


def find(story: Story) -> Record | None:
    """The record that answers the trial; None if there is none. A repeat is measured anew."""
    config, root = story.config, story.place.cache
    if root is None or story.verdict is None or story.place.repeat_of is not None:
        return None
    story.uncached = unpinned(config)
    if story.uncached:
        return None
    wanted = key(config, story.verdict.knobs, {**describe(), **describe_gpus()})
    own = story.place.run_dir.path.parent
    found = (path for path, (_, seen) in _index(root).items() if seen == wanted and Path(path).parent.parent != own)
    records = (readable.read(Record, Path(path)) for path in found)
    return next((one for one in records if _is_older(config.model.path, one.started_at)), None)


def key(config: Config, knobs: Mapping[str, Scalar | None], environment: Mapping[str, str]) -> str:
    """Equal for trials that measure the same."""
    whole = plain(config)
    for part in ("tracker", "timeouts", "quality", "objective", "knobs"):
        del whole[part]
    whole["traffic"] = plain(config.traffic.identity)
    whole["hardware"] = _of_the_trial(whole["hardware"], config.gpus)
    told = [_without_deadlines(whole), sorted(map(str, knobs.items())), [environment.get(name) for name in MACHINE]]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _of_the_trial(hardware: dict[str, Any], gpus: int) -> dict[str, Any]:
    """What of the machine a trial sees, so that hardware=auto and hardware=h100 are the same on an H100.

    How many GPUs the machine has is in the environment; links between them matter to trials that take several.
    """
    beside = {"gpu_count", "seen_as"} | ({"nvlink"} if gpus <= 1 else set())
    return {name: said for name, said in hardware.items() if name not in beside} | {"gpus": gpus}


def _without_deadlines(item: Any) -> Any:
    if isinstance(item, dict):
        return {name: _without_deadlines(inner) for name, inner in item.items() if name not in FORGET}
    return item


def unpinned(config: Config) -> str | None:
    """What may be something else today; None if nothing is."""
    if config.backend.is_endpoint:
        return "what runs behind backend.url may be another engine or model today"
    backend = config.backend.container or config.backend.kubernetes
    image = (backend.image or config.runtime.image) if backend else None
    if backend and "@sha256:" not in str(image):
        return f"the image {image} is not named by its digest (name@sha256:...)"
    model = config.model
    if model.path is None and model.package is None and not COMMIT.fullmatch(model.revision or ""):
        return f"model.revision={model.revision} is not a commit"
    return None


def may_answer(record: Record) -> bool:
    """Whether it was measured by itself, once, in full and alone."""
    is_own = record.same_as is None and record.cached_from is None and record.repeat_of is None
    was_alone = not any("ran on this machine meanwhile" in note for note in record.notes)
    return record.status == "ok" and is_own and was_alone and not record.is_raced


def _index(root: Path) -> Index:
    """Every record two folders below the root. What was read once is remembered: a thousand records take seconds."""
    memory = cache_dir() / "records" / f"{KEYS}-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"
    known = _known(memory)
    there = {str(path): path.stat().st_mtime_ns for path in sorted(root.glob("*/*/record.json"))}
    index = {path: known[path] if known.get(path, (0, ""))[0] == at else (at, _key(path)) for path, at in there.items()}
    if index != known:
        memory.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(memory, json.dumps(index))
    return index


def _known(memory: Path) -> Index:
    try:
        return {path: (at, seen) for path, (at, seen) in json.loads(memory.read_text("utf-8")).items()}
    except (OSError, ValueError):
        return {}


def _key(path: str) -> str:
    try:
        record = readable.read(Record, Path(path))
    except (OSError, ValidationError):  # of another version, or being written
        return ""
    knobs = record.verdict.knobs if record.verdict else record.config.knobs
    return key(record.config, knobs, record.environment) if may_answer(record) else ""


def _is_older(model: Path | None, moment: datetime) -> bool:
    """Whether none of the model's files has changed since."""
    return all(datetime.fromtimestamp(at, UTC) < moment for at in _changes(model))


def _changes(model: Path | None) -> Iterator[float]:
    if model is not None:
        yield from (path.stat().st_mtime for path in (model, *model.glob("*")))
