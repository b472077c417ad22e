"""What a reader of a trial's numbers has to know, in words, for its record. Pure."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.core.hardware_use import SHORT
from pipeline.core.record import Level
from pipeline.core.resolved import Rewrite
from pipeline.engines.prefix_cache import FAILED
from pipeline.engines.versions import is_same_release
from pipeline.trial import already_there

if TYPE_CHECKING:
    from pipeline.trial.story import Story


def of(story: "Story", rewrites: Sequence[Rewrite]) -> tuple[str, ...]:
    """What a reader of the numbers has to know."""
    foreseen = story.verdict.findings if story.verdict else ()
    return (
        *(f"{finding.verdict}: {finding.reason}" for finding in foreseen if finding.verdict != "refused"),
        *(f"{item.knob}: asked {item.asked}, the engine set {item.got}" for item in rewrites),
        *already_there.notes(story),
        *([] if story.difference is None else [f"warned: {story.difference}"]),
        *_unknown(story),
        *([] if story.same_as is None else [f"same settings as trial {story.same_as}, whose levels are shown"]),
        *([] if story.cached_from is None else [f"cached: measured as trial {story.cached_from} of another sweep"]),
        *([] if story.uncached is None else [f"cache=read was not used: {story.uncached}"]),
        *([_crowd(story)] if story.neighbours else []),
        *_uncleared(story.levels),
        *_unasked(story.levels),
        *_unmeasured(story),
        *_of_levels(story.levels),
    )


def _of_levels(levels: Sequence[Level]) -> Iterator[str]:
    """Each warning once, with the levels that have it."""
    whose: dict[str, list[str]] = {}
    for level in levels:
        for note in level.warnings:
            whose.setdefault(note, []).append(level.name)
    yield from (f"{', '.join(names)}: {note}" for note, names in whose.items())


def _uncleared(levels: Sequence[Level]) -> Iterator[str]:
    """A note for each reason why the prefix cache was not cleared, with the levels."""
    reasons = dict.fromkeys(level.cache_reset for level in levels if level.cache_reset.startswith(FAILED))
    for reason in reasons:
        names = ", ".join(level.name for level in levels if level.cache_reset == reason)
        yield f"warned: the prefix cache was not cleared before {names}: {reason.removeprefix(FAILED)}"


def _unasked(levels: Sequence[Level]) -> Iterator[str]:
    """A note for each reason why the engine's metrics are not known."""
    told = (level.engine_metrics.missing for level in levels if level.engine_metrics)
    yield from (f"what limits the engine is less known: {why}" for why in dict.fromkeys(filter(None, told)))


def _unmeasured(story: "Story") -> Iterator[str]:
    """A note for each reason why a GPU's energy is not known; of a CPU it seldom is."""
    told = (level.hardware.missing for level in story.levels if level.hardware and story.config.gpus)
    whys = dict.fromkeys(why for why in told if why not in (None, SHORT))
    yield from (f"the energy is unknown: {why}" for why in whys)


def _unknown(story: "Story") -> Iterator[str]:
    """What the engine did not say of itself, and where what it said is not what was planned with."""
    if story.unsaid:
        told = filter(None, (story.unsaid, story.config.runtime.tells.settings_help))
        yield f"settings unknown: {'. '.join(told)}. Whether the engine set knobs to other values cannot be told"
    said, planned = story.engine_version, story.config.runtime.version
    if said and planned and not is_same_release(said, planned):
        yield (
            f"the engine is version {said}, runtime.version is {planned}: its flags and rules were "
            "taken for those of the latter"
        )


def _crowd(story: "Story") -> str:
    own = story.plan.slots if story.plan else None
    shared = "memory, buses and the cores of the load generator" if own and (own.cores or own.gpu_ids) else "CPU cores"
    return (
        f"warned: {story.neighbours} other trial{'s' * (story.neighbours > 1)} ran on this machine meanwhile and "
        f"shared {shared}: measure important trials again, one at a time"
        + ("" if shared != "CPU cores" else ", or give each trial its own cores (hardware.cores_per_trial)")
    )
