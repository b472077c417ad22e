"""Reading what wandb wrote offline, as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def stored(run: Path) -> Iterator[Any]:
    """The records of an offline run: 7 bytes, then LevelDB's log format (chunks in blocks of 32 KiB)."""
    from wandb.proto import wandb_internal_pb2

    data, position, whole = next(run.glob("*.wandb")).read_bytes(), 7, b""
    while position + 7 <= len(data):
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in {1, 4}:  # full, last
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(whole)
            yield record
            whole = b""
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768


def run_of(path: Path) -> Any:
    """How the run was begun: id, group, type, name, tags, configuration."""
    return next(record.run for record in stored(path) if record.HasField("run"))


def items(updates: Any) -> dict[str, Any]:
    """What a config, summary or history record says."""
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in updates}


def summary(run: Path) -> dict[str, Any]:
    """The summary at the run's end."""
    merged: dict[str, Any] = {}
    for record in stored(run):
        merged |= items(record.summary.update)
    return merged


def history(run: Path) -> list[dict[str, Any]]:
    """What was logged, step by step."""
    return [items(record.history.item) for record in stored(run) if record.HasField("history")]


def table(run: Path, name: str = "") -> list[list[Any]]:
    """The rows of the table that was logged under that name, or of the only one."""
    rows: list[list[Any]] = json.loads(next(run.rglob(f"{name}*.table.json")).read_text())["data"]
    return rows


def artifact(run: Path, kind: str) -> Any:
    """The artifact of that type that a run logs."""
    found = [record.request.log_artifact.artifact for record in stored(run)] + [each.artifact for each in stored(run)]
    return next(one for one in found if one.type == kind)
