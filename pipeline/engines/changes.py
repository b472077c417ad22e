"""What one release changes against another: flags added and removed, their choices, defaults and kinds."""

from collections.abc import Iterator

from pipeline.engines.flags import Catalogue, Flag


def between(old: Catalogue, new: Catalogue) -> tuple[str, ...]:
    """A line for each change: `+` a new flag, `-` one that is gone, `~` one that differs. None if nothing does."""
    added = (f"+ {_told(flag)}" for flag in new.flags if not _same(flag, old))
    removed = (f"- {flag.names[0]}" for flag in old.flags if not _same(flag, new))
    differing = (
        f"~ {flag.names[0]}: {'; '.join(said)}"
        for flag in new.flags
        for before in (_same(flag, old),)
        if before and (said := list(_differences(before, flag)))
    )
    return (*sorted(added), *sorted(removed), *sorted(differing))


def _same(flag: Flag, there: Catalogue) -> Flag | None:
    """The flag with the first of these names that the other release has."""
    return next(filter(None, map(there.find, flag.names)), None)


def _told(flag: Flag) -> str:
    takes = "|".join(flag.choices) or flag.kind
    default = "" if flag.default is None else f", default {flag.default}"
    return f"{' '.join(flag.names)} ({takes}{default}){' deprecated' if flag.deprecated else ''}"


def _differences(old: Flag, new: Flag) -> Iterator[str]:
    for what, before, now in (("kind", old.kind, new.kind), ("default", old.default, new.default)):
        if before != now:
            yield f"{what} {before} is {now}"
    yield from _words("name", old.names, new.names)
    if old.choices and new.choices:
        yield from _words("choice", old.choices, new.choices)
    elif old.choices != new.choices:
        yield f"choices {', '.join(old.choices) or 'open'} are {', '.join(new.choices) or 'open'}"
    if new.deprecated and not old.deprecated:
        yield f"deprecated: {new.deprecated}"


def _words(what: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[str]:
    gone, come = [word for word in old if word not in new], [word for word in new if word not in old]
    if gone:
        yield f"{what} gone: {', '.join(gone)}"
    if come:
        yield f"{what} new: {', '.join(come)}"
