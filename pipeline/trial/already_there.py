"""What is different about a trial of a server that is there already (backend=endpoint)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends.endpoint import NOTHING
from pipeline.core.errors import PreflightFailed
from pipeline.core.plan import Assets
from pipeline.core.reasons import Reason
from pipeline.core.record import Record
from pipeline.core.schema import Config
from pipeline.engines import endpoint
from pipeline.machine import signals
from pipeline.models import served

if TYPE_CHECKING:
    from pipeline.trial.story import Story

SERVER = "server"  # of a record's deployment: what answered, in words
# Of a model in /v1/models. Not: when it was listed, and permissions with ids of chance, which vLLM has.
# Source: vllm 0.32.0 entrypoints/openai/models/protocol.py, ModelCard; llama.cpp tools/server/server-context.cpp
TELLING = ("root", "parent", "max_model_len", "owned_by", "meta")


def fetch(config: Config) -> Assets:
    """What the server calls the model, once it answers, and a tokenizer; there are no weights.

    Raises:
        PreflightFailed: it does not answer, or does not have the model.
        OSError: the cache cannot be written.
    """
    name = endpoint.await_name(config, watch=signals.check)
    folder = served.tokenizer(config.model, watch=signals.check)
    return Assets(model_path=Path(name), tokenizer_dir=folder, served_name=name)


def look(story: "Story", earlier: Iterable[Record]) -> None:
    """Note what answers at the URL before measuring, and whether that is what earlier trials of the sweep measured."""
    if not (url := story.config.backend.url) or (found := _answering(story)) is None:
        return
    story.server = found
    records = (one for one in earlier if one.config.backend.url == url and SERVER in one.deployment)
    first = min(records, key=lambda one: one.number, default=None)
    if first is not None and first.deployment[SERVER] != found:
        there = f"trial {first.number} of this sweep measured {first.deployment[SERVER]}, this trial {found}"
        story.swapped = f"another server answers at {url}: {there}"


def look_again(story: "Story") -> None:
    """The same after measuring."""
    if story.server is None or (found := _answering(story)) in (None, story.server):
        return
    story.swapped = (
        f"another server answers at {story.config.backend.url} since the trial began: it was {story.server}, it is "
        f"{found}"
    )


def _answering(story: "Story") -> str | None:
    """The model as the server lists it, and the engine's version; None where nobody answers."""
    if story.plan is None:
        return None
    try:
        listed = endpoint.models(story.config.backend)
    except PreflightFailed:
        return None  # its requests fail, too: that is told
    if listed is None:
        return None
    version = f", version {story.engine_version}" if story.engine_version else ""
    return f"{spelled(listed, story.plan.served_name)}{version}"


def spelled(listed: Sequence[Mapping[str, Any]], name: str) -> str:
    """A model of the list with what tells it from another one of its name: `tiny (max_model_len=1024)`."""
    mine = next((one for one in listed if str(one["id"]) == name), None)
    if mine is None:
        return f"a server without {name}"
    told = ", ".join(f"{key}={seen}" for key, seen in _telling(mine))
    return f"{name} ({told})" if told else name


def _telling(model: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for key in TELLING:
        seen = model.get(key)
        if isinstance(seen, Mapping):
            yield from ((inner, seen[inner]) for inner in sorted(seen) if isinstance(seen[inner], int | str))
        elif isinstance(seen, int | str) and seen != "":
            yield key, seen


def notes(story: "Story") -> Iterator[str]:
    """What a reader of the numbers has to know."""
    if story.config.backend.is_endpoint and story.deployment is not None:
        yield NOTHING
    if story.swapped is not None:
        yield f"warned: {story.swapped}"


def is_baseline(config: Config, reason: Reason | None) -> bool:
    """A configuration is a baseline by its knobs; those of such servers are not known, and a search takes the first."""
    is_first = reason is None or reason.by == "baseline"
    return config.is_baseline and (is_first or not config.backend.is_endpoint)
