"""Models of the Hugging Face hub: finds them in the local cache, or downloads them in a child process.

The child (`python -m pipeline.models.hub`) is needed because Ctrl-C could not stop a download in our own threads.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

from pipeline.core.errors import FailureKind, ModelError
from pipeline.core.values import from_json, value
from pipeline.machine.companion import Companion, die_with_parent

# What no serving engine reads: the publisher's own format, other frameworks' copies of the weights
UNUSED = ("original/*", "consolidated*", "*.pth", "*.pt", "*.gguf", "*.onnx", "*.h5", "*.msgpack")
TOKENIZER = ("*.json", "*.model", "*.txt", "*.jinja")
WEIGHTS = ("*.safetensors", "*.bin")
UNREACHABLE_HINT = (
    "Download it elsewhere and set model.path to the folder, or fix the network (HF_ENDPOINT, HTTPS_PROXY)."
)
REACH_S = 4.0  # for a connection to the hub, or to the proxy before it
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


@value
class Wanted:
    """What to fetch: all that serving needs, or only the files that match `patterns`."""

    repo: str
    revision: str | None
    patterns: tuple[str, ...] = ()


def find(wanted: Wanted) -> Path | None:
    """The folder of the cached snapshot if all that is wanted is in it; no network, nothing written.

    Source: huggingface_hub, guides/manage-cache: refs/<revision> names a commit, snapshots/<commit> holds the files.
    """
    home = cache_dir() / f"models--{wanted.repo.replace('/', '--')}"
    revision = wanted.revision or "main"
    named = home / "refs" / revision
    folder = home / "snapshots" / (named.read_text("utf-8").strip() if named.is_file() else revision)
    complete = has_tokenizer(folder) if wanted.patterns else is_complete(folder)
    return folder if complete else None


def cache_dir() -> Path:
    """Where huggingface_hub keeps what it downloads: $HF_HUB_CACHE, else $HF_HOME/hub."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def place(wanted: Wanted) -> Path:
    """The folder that it will have in the cache; the hub names it by the commit."""
    return cache_dir() / f"models--{wanted.repo.replace('/', '--')}" / "snapshots" / (wanted.revision or "main")


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a configuration and every file of the weights."""
    if not (folder / "config.json").is_file():
        return False
    for index in INDEXES:
        if (folder / index).is_file():
            shards = json.loads((folder / index).read_text("utf-8"))["weight_map"].values()
            return all((folder / shard).is_file() for shard in set(shards))
    return any(next(folder.glob(pattern), None) for pattern in WEIGHTS)


def has_tokenizer(folder: Path) -> bool:
    """Whether transformers finds a tokenizer in a folder."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


@cache
def unreachable() -> str | None:
    """Why nothing can be downloaded; None where somebody answers, however slowly. Asked once in a process."""
    import requests
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    found = [f"no answer within {REACH_S:g} s"]  # where the name of the host is looked up for longer

    def ask() -> None:
        try:
            requests.head(constants.ENDPOINT, timeout=(REACH_S, REACH_S / 4))
        except requests.ReadTimeout:
            found.clear()
        except (requests.RequestException, OSError) as error:
            found[:] = [f"{type(error).__name__}"]
        else:
            found.clear()

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(REACH_S + 1)
    return f"{constants.ENDPOINT}: {found[0]}" if found else None


def insist_reachable(repo: str) -> None:
    """Check that a download can begin.

    Raises:
        ModelError: nobody answers.
    """
    if why := unreachable():
        raise ModelError(
            f"{repo} is not in {cache_dir()}, and the Hugging Face hub cannot be reached ({why}).",
            kind=FailureKind.HUB_UNREACHABLE,
            hint=UNREACHABLE_HINT,
        )


def fetch(wanted: Wanted, *, log: Path, watch: Callable[[], None]) -> Path:
    """The folder of the snapshot, downloaded by a child; `watch` is asked meanwhile, what it raises ends it.

    Raises:
        ModelError: there is no such model, no right to it, no way to the hub, no space.
    """
    child = Companion("pipeline.models.hub", log=log, env=os.environ)
    try:
        child.send({"repo": wanted.repo, "revision": wanted.revision, "patterns": wanted.patterns})
        told = child.answer(timeout_s=float("inf"), watch=watch)
    finally:
        child.close()
    if told is None:
        raise ModelError(f"The download of {wanted.repo} ended without an error message; see {log}.")
    if "path" in told:
        return Path(told["path"])
    raise ModelError(told["message"], kind=FailureKind(told["kind"]), hint=told["hint"])


def main() -> None:
    """The child: one Wanted on stdin, `{"path"}` or `{"kind", "message", "hint"}` on stdout."""
    die_with_parent()
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
    told = _download(from_json(Wanted, sys.stdin.readline()))
    answers.write(json.dumps(told) + "\n")
    answers.flush()


def _download(wanted: Wanted) -> dict[str, Any]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = snapshot_download(
            wanted.repo,
            revision=wanted.revision,
            allow_patterns=list(wanted.patterns) or None,
            ignore_patterns=list(UNUSED),
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        return _trouble(wanted, error)
    return {"path": path}


def _trouble(wanted: Wanted, error: Exception) -> dict[str, str]:
    from huggingface_hub import errors

    where = f"https://huggingface.co/{wanted.repo}"
    told: Sequence[tuple[type[Exception], FailureKind, str, str]] = (
        (
            errors.GatedRepoError,
            FailureKind.MODEL_GATED,
            f"{wanted.repo} is gated, and your Hugging Face token has no access.",
            f"Accept the licence at {where}, then set HF_TOKEN or run `hf auth login`.",
        ),
        (
            errors.RevisionNotFoundError,
            FailureKind.MODEL_MISSING,
            f"{wanted.repo} has no revision {wanted.revision}.",
            "Set model.revision=main, or a commit that exists.",
        ),
        (
            errors.RepositoryNotFoundError,
            FailureKind.MODEL_MISSING,
            f"There is no model {wanted.repo} on the Hugging Face hub, or it is private.",
            "Check model.repo; set HF_TOKEN if the model is private.",
        ),
        (
            errors.LocalEntryNotFoundError,
            FailureKind.HUB_UNREACHABLE,
            f"{wanted.repo} is not in {cache_dir()}, and the Hugging Face hub cannot be reached.",
            UNREACHABLE_HINT,
        ),
    )
    for kind, failure, message, hint in told:
        if isinstance(error, kind):
            return {"kind": failure, "message": message, "hint": hint}
    words = str(error).splitlines() or [type(error).__name__]
    return {
        "kind": FailureKind.MODEL_MISSING,
        "message": f"{wanted.repo} could not be downloaded to {cache_dir()}: {words[0]}",
        "hint": "Run the same command again: the files downloaded so far are kept.",
    }


if __name__ == "__main__":
    main()
