"""Which packages the check needs beside PyTorch and transformers, read from uv.lock. Pure, but for reading it."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent.parent / "uv.lock"
# PyTorch, transformers and what these cannot do without in any version
THERE = frozenset(
    {"torch", "transformers", "accelerate", "huggingface-hub", "hf-xet", "tokenizers", "safetensors", "regex", "numpy"}
)
# Of ours, used elsewhere only: clusters, Docker, W&B, tables as Parquet, jobs
LEFT_OUT = frozenset({"wandb", "wandb-workspaces", "kubernetes", "pyarrow"})
# What genai-bench imports at its start and never calls here: package, and the name that it is imported by
STUBBED: Mapping[str, str] = {
    "oci": "oci",
    "oci-openai": "oci_openai",
    "datasets": "datasets",
    "matplotlib": "matplotlib",
    "pillow": "PIL",
}
SERVING = ("fastapi", "uvicorn", "starlette", "openai")  # what `transformers serve` imports; not in the lock file


def packages(python_version: str, lock: Path = LOCK) -> dict[str, str]:
    """Name and version of each package that is needed; what is there, left out or stubbed is not, nor what it needs."""
    entries = tomllib.loads(lock.read_text("utf-8"))["package"]
    locked: dict[str, Any] = {
        each["name"]: each for each in entries if _is_for(python_version, each.get("resolution-markers"))
    }
    skipped = THERE | LEFT_OUT | STUBBED.keys()
    found = _closure(locked, ("servetune",), skipped, python_version)
    return {name: locked[name]["version"] for name in sorted(found - {"servetune"})}


def _is_for(python_version: str, markers: Sequence[str] | None) -> bool:
    """Whether one of the markers is true of that Python on Linux; True without any."""
    from packaging.markers import Marker

    there = {"python_version": python_version, "python_full_version": f"{python_version}.0", "sys_platform": "linux"}
    return not markers or any(Marker(marker).evaluate(there) for marker in markers)


def _closure(locked: Mapping[str, Any], roots: Iterable[str], skipped: frozenset[str], python_version: str) -> set[str]:
    found: set[str] = set()
    waiting = [*roots]
    while waiting:
        name = waiting.pop()
        if name in found or name in skipped:
            continue
        found.add(name)
        wanted = locked[name].get("dependencies", [])
        waiting += [need["name"] for need in wanted if _is_for(python_version, [*filter(None, [need.get("marker")])])]
    return found


def requirements(lines: Iterable[str]) -> list[str]:
    """The names in requirements such as `docker>=7.2,<8`."""
    return [re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0] for line in lines]


def normal(name: str) -> str:
    """A package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()
