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
from pipeline.models import hub
from pipeline.models.hub import Wanted
from pipeline.models.tokenizer import build_tokenizer

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
    if found.is_dir():
        return Assets(model_path=found, tokenizer_dir=_tokenizer(model, found, watch))
    return Assets(model_path=found, tokenizer_dir=build_tokenizer(found, cache_dir() / "tokenizers"))


def prepare_tokenizer(model: Model, *, watch: Watch = lambda: None) -> Path:
    """The tokenizer folder alone, for a model that is served elsewhere; fetched on first use.

    Raises:
        ModelError: there is none, or no way to it.
    """
    found = locate(model) if model.path is not None or model.package is not None else None
    if found is not None and not found.is_dir():
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


def has_to_come(model: Model) -> bool:
    """Whether `prepare` would download the model."""
    return model.path is None and model.package is None and model.repo is not None and locate(model) is None


def _tokenizer(model: Model, folder: Path | None, watch: Watch) -> Path:
    """The folder with the tokenizer, for genai-bench, which is never given the name of a repository.

    With a name it asks the hub even where everything is cached, and fails without network. `folder` is the model's;
    None where it is not on this disk.
    """
    own = model.tokenizer or folder
    if own is None or (model.tokenizer is not None and not Path(own).is_dir()):
        revision = None if model.tokenizer else model.revision
        wanted = Wanted(repo=str(model.tokenizer or model.repo), revision=revision, patterns=hub.TOKENIZER)
        return hub.find(wanted) or hub.fetch(wanted, log=_log(), watch=watch)
    found = Path(own)
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
